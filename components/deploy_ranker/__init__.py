"""The `deploy_ranker` component."""
