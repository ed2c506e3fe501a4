"""NVRAM on etcd, by its JSON gateway: `EtcdNvram` (spec/sealed.md#nvram-on-etcd).

`wire` has the bodies of requests and answers, `chain` the order of commits, `lease` the ownership, and
`transport` the HTTP requests.  Only `nvram` joins them.
"""
