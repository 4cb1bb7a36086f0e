# A full backlog: a connect that blocks waits, ends in its time, is interrupted and
# killed as it is without a supervisor; and many threads connect at once.
import errno, os, signal, socket, sys, tempfile, threading, time

os.chdir(tempfile.mkdtemp())


def full():
    listener, name, held = socket.socket(socket.AF_UNIX), "f%d" % time.monotonic_ns(), []
    listener.bind(name)
    listener.listen(0)
    while True:
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        try:
            client.connect(name)
            held.append(client)
        except BlockingIOError:
            return listener, name, held


listener, name, held = full()
threading.Thread(target=lambda: (time.sleep(0.2), listener.accept())).start()
client = socket.socket(socket.AF_UNIX)
client.connect(name)
print("waited, connected")

listener, name, held = full()
client = socket.socket(socket.AF_UNIX)
client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, (0).to_bytes(8, "little") + (200000).to_bytes(8, "little"))
begun = time.monotonic()
try:
    client.connect(name)
except OSError as e:
    print("SO_SNDTIMEO:", errno.errorcode[e.errno], time.monotonic() - begun >= 0.2)


class Stop(Exception):
    pass


def stop(*_):
    raise Stop


signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    socket.socket(socket.AF_UNIX).connect(name)
except Stop:
    print("a signal's handler ran")

signal.signal(signal.SIGALRM, lambda *_: None)
signal.siginterrupt(signal.SIGALRM, False)
threading.Thread(target=lambda: (time.sleep(0.4), listener.accept())).start()
signal.setitimer(signal.ITIMER_REAL, 0.1)
socket.socket(socket.AF_UNIX).connect(name)
print("a signal with SA_RESTART: connected")

listener, name, held = full()
child = os.fork()
if child == 0:
    socket.socket(socket.AF_UNIX).connect(name)
    os._exit(0)
time.sleep(0.1)
os.kill(child, signal.SIGKILL)
print("killed:", os.waitpid(child, 0)[1])

server, failed = socket.socket(socket.AF_UNIX), []
server.bind("many")
server.listen(1000)


def many():
    for _ in range(200):
        try:
            client = socket.socket(socket.AF_UNIX)
            client.connect("many")
            client.close()
        except OSError as e:
            failed.append(e)


def accept():
    while True:
        server.accept()[0].close()


threading.Thread(target=accept, daemon=True).start()
threads = [threading.Thread(target=many) for _ in range(50)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("10000 connects of 50 threads, failed:", failed[:3])

# TCP: refused, and a backlog that stays full.
try:
    socket.create_connection(("127.0.0.1", 1), timeout=None)
except OSError as e:
    print("refused:", errno.errorcode[e.errno])
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(0)
held = []
for _ in range(4):
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex(listener.getsockname())
    held.append(client)
client = socket.socket()
client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, (0).to_bytes(8, "little") + (200000).to_bytes(8, "little"))
try:
    client.connect(listener.getsockname())
except OSError as e:
    print("TCP, SO_SNDTIMEO:", errno.errorcode[e.errno])
sys.stdout.flush()
os._exit(0)
