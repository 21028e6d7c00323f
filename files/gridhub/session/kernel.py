# SPDX-License-Identifier: BSD-3-Clause
"""Settings of all IPython kernels on a worker.

They keep a kernel from opening a TCP port for the output of child processes, and they restore the
variables that were hidden from the start of a kernel.

ipykernel receives the output of forked child processes through a socket that it calls a pipe, on a
random port of 127.0.0.1. Any account on the worker can connect to this port, and the kernel stores
all received data in memory. In our sessions, the other sockets of a kernel are Unix sockets. For
such kernels, this file makes the pipe a Unix socket too, in the folder of the other sockets. Other
users cannot enter this folder. This file does not change kernels that use TCP.

The session names this file to each IPython kernel that it starts, and /etc/ipython loads it into
kernels behind a user's own script. Users' own environments may have any Python, so the file must
run on all of them, including 2.7.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import typing  # noqa: F401  # for the type comments


def pipe_address(kernel):
    # type: (bytes) -> str | None
    """Return the pipe's address for a kernel's address, or None for a kernel on TCP.

    The pipe's address must not be longer than the kernel's own addresses, which may already be as
    long as the path of a socket can be (MAX_FOLDER in server.py).
    """
    # libzmq ends the address with a NUL, which old versions of pyzmq do not strip.
    address = kernel.rstrip(b"\0").decode("utf-8")
    if not address.startswith("ipc://"):
        return None
    # jupyter_client numbers a kernel's sockets: PATH-1, PATH-2 and so on.
    return address.rpartition("-")[0] + "-p"


def use_private_pipes():
    # type: () -> None
    """Make this process's kernel open its pipe next to the kernel's other sockets.

    Two inner functions replace two of ipykernel's methods. They differ from the originals in
    ipykernel 4.3 to 7.4 only in the pipe's address.
    """
    import os
    import warnings

    import zmq
    from ipykernel.iostream import IOPubThread
    from zmq.eventloop.zmqstream import ZMQStream

    if getattr(IOPubThread, "has_private_pipes", False):
        return  # two settings of IPython may load this file
    try:
        on_tcp, to_tcp = IOPubThread._setup_pipe_in, IOPubThread._setup_pipe_out
    except AttributeError:
        return  # this version of ipykernel has no such pipe

    def setup_pipe_in(thread):
        # type: (typing.Any) -> None
        thread._pipe_address = pipe_address(thread.socket.getsockopt(zmq.LAST_ENDPOINT))
        if thread._pipe_address is None:
            on_tcp(thread)
            return
        thread._pipe_uuid = os.urandom(16)
        pipe = thread.socket.context.socket(zmq.PULL)
        pipe.linger = 0
        try:
            pipe.bind(thread._pipe_address)
        except zmq.ZMQError as error:
            # Go on without the pipe, as ipykernel does if no port is free. Do not use a TCP port
            # instead: other users could connect to a port.
            warnings.warn("The output of child processes is not shown: %s" % error, stacklevel=2)
            thread._pipe_flag = False
            pipe.close()
            return
        thread._pipe_in = ZMQStream(pipe, thread.io_loop)
        thread._pipe_in.on_recv(thread._handle_pipe_msg)

    def setup_pipe_out(thread):
        # type: (typing.Any) -> typing.Any
        if thread._pipe_address is None:
            return to_tcp(thread)
        context = zmq.Context()  # a forked process cannot use its parent's context
        pipe = context.socket(zmq.PUSH)
        pipe.linger = 3000  # milliseconds, as in ipykernel
        pipe.connect(thread._pipe_address)
        return context, pipe

    IOPubThread.has_private_pipes = True
    IOPubThread._setup_pipe_in = setup_pipe_in
    IOPubThread._setup_pipe_out = setup_pipe_out


def show_hidden_variables():
    # type: () -> None
    """Restore the variables of the dynamic loader for the programs that this kernel starts.

    They were hidden from this kernel's own start (``environment.py``). The loader has read them by
    now.
    """
    import os

    hidden = "GRIDHUB_JOB_"
    for name in [each for each in os.environ if each.startswith(hidden)]:
        os.environ[name[len(hidden) :]] = os.environ.pop(name)


# IPython defines get_config in the files that it loads as configuration.
if "get_config" in globals():
    show_hidden_variables()
    use_private_pipes()
