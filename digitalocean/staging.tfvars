# As prod, but smaller: what is promoted was seen here.
environment           = "staging"
ip_range              = "10.20.0.0/20"
other_ranges          = ["10.30.0.0/22", "10.40.0.0/20"]
pool                  = "api-staging"
pool_min              = 2
pool_max              = 6
database_count        = 3
database_volume_gib   = 25
monitoring_volume_gib = 25
