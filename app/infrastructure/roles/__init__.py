"""The roles of the database: the owner's, the service's, Grafana's, and what each may do."""
