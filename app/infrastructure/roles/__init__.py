"""The roles of the database and their rights: the owner, the service, Grafana."""
