"""Certificates of both sides, by one authority."""

import ssl

import grpc
import trustme


class Certificates:
    """As files of Secrets, and for clients; `names` are those of the servers."""

    def __init__(self, folder, *names):
        authority = trustme.CA()
        self.authority = authority.cert_pem.bytes().decode()
        self.server, self.client = authority.issue_cert(*names), authority.issue_cert("a-client")
        self.client_file = str(folder / "client.pem")
        self.client.private_key_and_cert_chain_pem.write_to_path(self.client_file)

    def secret(self, certificate):
        chain = "".join(each.bytes().decode() for each in certificate.cert_chain_pems)
        return {"tls.crt": chain, "tls.key": certificate.private_key_pem.bytes().decode(), "ca.crt": self.authority}

    def for_http(self, is_known=True):
        context = ssl.create_default_context(cadata=self.authority)
        if is_known:
            context.load_cert_chain(self.client_file)
        return context

    def for_grpc(self, is_known=True):
        own = self.secret(self.client)
        pair = (own["tls.key"].encode(), own["tls.crt"].encode()) if is_known else (None, None)
        return grpc.ssl_channel_credentials(self.authority.encode(), *pair)
