"""What tests share: databases, services, replicas, poolers."""
