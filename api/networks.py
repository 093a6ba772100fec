"""From which network a request comes: what the connection says, or a proxy or gateway that may say so.

Budgets of password attempts go by it (ledger/guessing.py), and it is evidence of a rotation; no decision goes by it.
"""

import json
from ipaddress import IPv4Network, IPv6Network

from falcon.asgi import Request

from api.asking import credentials_of_secret
from api.service import NOBODY, Service
from ledger.errors import NotAuthenticated
from ledger.guessing import address_of, network_of


async def network_of_request(req: Request, service: Service) -> str:
    """Answer the network of whoever sent the request; "" where nobody knows.

    The last address in X-Forwarded-For that is no trusted proxy, when the connection comes from a trusted proxy or the request
    from a gateway (`Ledger-Gateway-Key`); a header of anybody else is not looked at. NotAuthenticated: a wrong gateway key.
    """
    client = req.scope.get("client")
    peer = client[0] if client else ""
    forwarded = [part.strip() for part in (req.get_header("X-Forwarded-For") or "").split(",")]
    proxies = service.settings.proxies()
    if req.get_header("Ledger-Gateway-Key") is not None:
        await _check_gateway(req, service)
    elif not _is_among(peer, proxies):
        return network_of(peer)
    # From the right: each was added by the hop after it, and what stands left of a stranger's is the stranger's word.
    for address in reversed(forwarded):
        if not _is_among(address, proxies):
            return network_of(address) or network_of(peer)
    return network_of(peer)


async def presenter_of(req: Request, service: Service) -> bytes:
    """Answer who presents a refresh token, as evidence to be sealed: network and user agent, JSON."""
    seen = {"network": await network_of_request(req, service), "user_agent": (req.get_header("User-Agent") or "")[:256]}
    return json.dumps(seen).encode()


async def _check_gateway(req: Request, service: Service) -> None:
    found, kept = await service.find(NOBODY)
    client = credentials_of_secret(req.get_header("Ledger-Gateway-Key") or "").client(kept, found)
    if client.serves_api_id is None:
        raise NotAuthenticated("unknown client, or wrong secret")


def _is_among(address: str, networks: list[IPv4Network | IPv6Network]) -> bool:
    found = address_of(address)
    return found is not None and any(found in network for network in networks)
