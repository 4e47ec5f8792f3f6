"""What happens to jobs: `manager` steers, `queries` reads, `leases` is for workers, `external` for outside senders."""
