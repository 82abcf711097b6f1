"""Starts threads, over and over."""

import threading
import time

print("ready", flush=True)
while True:
    thread = threading.Thread(target=time.sleep, args=(0.01,))
    thread.start()
    thread.join()
    time.sleep(0.05)
