"""Run as root in a workspace: what it can do to others on its network in the name of an address, one line each.

No workspace asks by DHCP, for Docker gives the addresses; the answer stands for any broadcast with a forged sender.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

INTERFACE = "eth0"
SIOCSIFADDR = 0x8916
EVERYBODY, NOBODY = b"\xff" * 6, bytes(4)
OWN = bytes.fromhex(Path(f"/sys/class/net/{INTERFACE}/address").read_text().strip().replace(":", ""))
ADDRESS = socket.inet_aton(sys.argv[1])


def send(kind: int, payload: bytes) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((INTERFACE, 0))
        raw.send(EVERYBODY + OWN + struct.pack("!H", kind) + payload)


def header(destination: bytes, length: int) -> bytes:
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, 64, socket.IPPROTO_UDP, 0) + ADDRESS + destination


def arp() -> None:
    send(0x0806, struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + OWN + ADDRESS + EVERYBODY + ADDRESS)


def dhcp() -> None:
    offer = struct.pack("!BBBBIHH", 2, 1, 6, 0, 1, 0, 0x8000) + NOBODY + ADDRESS + ADDRESS + NOBODY
    offer += OWN + bytes(202) + b"\x63\x82\x53\x63" + b"\x35\x01\x02\xff"
    datagram = struct.pack("!HHHH", 67, 68, 8 + len(offer), 0) + offer
    send(0x0800, header(b"\xff" * 4, len(datagram)) + datagram)


def datagram() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.sendto(header(ADDRESS, 8) + struct.pack("!HHHH", 9, 9, 8, 0), (sys.argv[1], 0))


def advertisement() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6):
        pass
    told = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
    send(0x86DD, struct.pack("!IHBB", 6 << 28, len(told), socket.IPPROTO_ICMPV6, 255) + bytes(32) + told)


def taken() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        wanted = struct.pack("16sHH4s8x", f"{INTERFACE}:1".encode(), socket.AF_INET, 0, ADDRESS)
        fcntl.ioctl(any_socket, SIOCSIFADDR, wanted)


ATTEMPTS: Mapping[str, Callable[[], None]] = {
    "ARP answer": arp,
    "DHCP answer": dhcp,
    "datagram of another": datagram,
    "IPv6 router advertisement": advertisement,
    "address of another": taken,
}
for name, attempt in ATTEMPTS.items():
    try:
        attempt()
    except PermissionError:
        continue
    print(name)
