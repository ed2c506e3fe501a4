"""The management console: rules, store and jobs.  `swpks.hmc` is its process."""
