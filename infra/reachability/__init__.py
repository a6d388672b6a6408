"""Who reaches whom in the namespace, and what confines the pods: read from manifests, without a cluster."""
