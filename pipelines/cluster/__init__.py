"""The pipelines on a Kubeflow cluster: connect, submit, schedule."""
