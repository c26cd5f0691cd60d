"""A real DNS server on loopback that answers what a test says."""

from __future__ import annotations

import socketserver
import threading
from typing import Self

import dns.message
import dns.rcode
import dns.rrset

from demo.processes import LOOPBACK


class DnsServer:
    """
    Answers A questions over UDP.

    :param records: name -> address
    :param ttl: seconds
    :param deaf: never answers
    """

    def __init__(self, records: dict[str, str], ttl: int = 60, *, deaf: bool = False) -> None:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                if deaf:
                    return
                question = dns.message.from_wire(self.request[0])
                reply, asked = dns.message.make_response(question), question.question[0]
                address = records.get(str(asked.name).rstrip("."))
                if address is None:
                    reply.set_rcode(dns.rcode.NXDOMAIN)
                elif asked.rdtype == 1:
                    reply.answer.append(dns.rrset.from_text(asked.name, ttl, "IN", "A", address))
                self.request[1].sendto(reply.to_wire(), self.client_address)

        self._server = socketserver.ThreadingUDPServer((LOOPBACK, 0), Handler)
        self.place = (LOOPBACK, self._server.server_address[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
