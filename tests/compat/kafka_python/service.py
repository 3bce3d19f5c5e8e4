"""Takes the place of a module that kafka-python's source package leaves out. It would start brokers."""


class ExternalService:
    """A broker that runs already."""

    def __init__(self, host, port):
        self.host, self.port = host, port

    def open(self):
        pass

    def close(self):
        pass

    def dump_logs(self):
        pass

    def stop(self):
        pass


class SpawnedService:
    """Tests that start brokers of their own (TLS, SASL) cannot run."""

    def __init__(self, *args, **kwargs):
        raise RuntimeError("no broker can be started here")
