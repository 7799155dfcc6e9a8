"""A name server for a pod: A records of Services, and of the pods behind those without an address of their own.

It stands for CoreDNS with its plugin `kubernetes`. Every other name does not exist. Needs dnspython alone: the
cluster has it in a ConfigMap.
"""

import asyncio
import json
import os
import ssl
import urllib.request
from collections import defaultdict
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_DOMAIN = "svc.cluster.local."
_TTL_S = 5
_PAUSE_S = 1.0

_records: dict[str, list[str]] = {}


def _list(path):
    """Return the objects at a path of the API."""
    request = urllib.request.Request(
        f"https://{os.environ['KUBERNETES_SERVICE_HOST']}{path}",
        headers={"Authorization": f"Bearer {(_ACCOUNT / 'token').read_text()}"},
    )
    trust = ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, context=trust, timeout=30) as answer:
        return json.load(answer)["items"]


def _read_records():
    """Return the addresses of each name as the API server knows them now."""
    records = defaultdict(list)
    headless = {}
    for service in _list("/api/v1/services"):
        key = (service["metadata"]["namespace"], service["metadata"]["name"])
        name = f"{key[1]}.{key[0]}.{_DOMAIN}"
        address = service["spec"].get("clusterIP")
        if address == "None":
            headless[key] = name
        elif address:
            records[name].append(address)
    for piece in _list("/apis/discovery.k8s.io/v1/endpointslices"):
        key = (piece["metadata"]["namespace"], piece["metadata"].get("labels", {}).get("kubernetes.io/service-name"))
        for endpoint in piece.get("endpoints") or () if key in headless else ():
            if endpoint.get("conditions", {}).get("ready") is False:
                continue
            records[headless[key]] += endpoint["addresses"]
            if endpoint.get("hostname"):
                records[f"{endpoint['hostname']}.{headless[key]}"] += endpoint["addresses"]
    return dict(records)


def _answer(data):
    """Return the answer to one request, as bytes."""
    question = dns.message.from_wire(data)
    answer = dns.message.make_response(question)
    answer.flags |= dns.flags.AA | dns.flags.RA
    asked = question.question[0]
    addresses = _records.get(asked.name.to_text().lower())
    if addresses is None:
        answer.set_rcode(dns.rcode.NXDOMAIN)
    elif asked.rdtype == dns.rdatatype.A:
        answer.answer.append(dns.rrset.from_text_list(asked.name, _TTL_S, "IN", "A", addresses))
    return answer.to_wire()


class _Udp(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self._transport = transport

    def datagram_received(self, data, address):
        self._transport.sendto(_answer(data), address)


async def _serve_tcp(reader, writer):
    """Answer one request over TCP, which begins with its length."""
    data = _answer(await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big")))
    writer.write(len(data).to_bytes(2, "big") + data)
    await writer.drain()
    writer.close()


async def main():
    """Read the records, then answer, and read them anew once a second."""
    global _records
    serving = False
    while True:
        try:
            _records = await asyncio.to_thread(_read_records)
        except (OSError, ValueError) as error:
            print(type(error).__name__, error, flush=True)
        else:
            if not serving:
                loop = asyncio.get_running_loop()
                await loop.create_datagram_endpoint(_Udp, local_addr=("0.0.0.0", 53))
                await asyncio.start_server(_serve_tcp, "0.0.0.0", 53)
                serving = True
                print("serving", len(_records), flush=True)
        await asyncio.sleep(_PAUSE_S)


asyncio.run(main())
