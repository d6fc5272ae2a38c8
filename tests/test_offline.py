"""What conftest.py forbids: sockets out of this machine, in this process, in processes started from it, in kernels."""

import socket
import subprocess
import sys
import urllib.request

import pytest

OUT = ("192.0.2.1", 80)  # of a network that is reserved for documentation
ATTEMPT = f"import socket\ntry: socket.create_connection({OUT}, 1)\nexcept PermissionError as e: print(e)"


def datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", OUT)


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: socket.create_connection(OUT, 1),
        lambda: socket.create_connection(("2001:db8::1", 80), 1),
        lambda: socket.getaddrinfo("example.org", 80),
        lambda: socket.gethostbyname("example.org"),
        lambda: urllib.request.urlopen("http://192.0.2.1/", timeout=1),
        datagram,
    ],
)
def test_nothing_leads_out(attempt):
    with pytest.raises(OSError, match="connect to nothing but this machine"):
        attempt()


def test_loopback_is_as_it_was():
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(("localhost", server.getsockname()[1]), 5) as client:
            server.accept()[0].sendall(b"here")
            assert client.recv(4) == b"here"


def test_processes_inherit_it():
    ran = subprocess.run([sys.executable, "-c", ATTEMPT], capture_output=True, text=True)
    assert "connect to nothing but this machine, not to 192.0.2.1" in ran.stdout


def test_notebook_kernels_inherit_it(tmp_path):
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3", cwd=str(tmp_path))
    try:
        told = []
        client.execute_interactive(
            ATTEMPT, timeout=60, output_hook=lambda message: told.append(message["content"].get("text", ""))
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert "connect to nothing but this machine" in "".join(told)
