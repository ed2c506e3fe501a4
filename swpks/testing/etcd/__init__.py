"""An etcd cluster in memory, for simulations: its store (`model`), and the network before it (`network`).

cluster = EtcdModel(clock)
client = httpx.Client(transport=ModelNetwork(cluster, fates))
"""
