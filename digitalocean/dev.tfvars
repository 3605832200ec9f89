# One host of each kind: to try things out. The loss of any of them is an outage, that of the database's volume loses documents.
environment           = "dev"
ip_range              = "10.30.0.0/22"
other_ranges          = ["10.20.0.0/20", "10.40.0.0/20"]
pool                  = "api-dev"
pool_min              = 1
pool_max              = 3
database_count        = 1
database_replication  = 1
database_volume_gib   = 10
monitoring_volume_gib = 10
monitoring_days       = 2
