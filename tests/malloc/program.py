# SPDX-License-Identifier: MIT
# Allocates in threads, forks meanwhile, and runs a program.
import json
import os
import subprocess
import sys
import threading

FORKS = 10


def digest(start):
    """Makes objects of many sizes and gives most of them back."""
    kept = {}
    for number in range(start, start + 1000):
        kept[number % 300] = [str(number) * (number % 40), bytes(number % 3000), {number: number}]
    text = json.dumps([len(str(value)) for value in kept.values()])
    return sum(json.loads(text))


def allocate_until(done, finished):
    rounds = 0
    while rounds == 0 or not done.is_set():
        digest(rounds)
        rounds += 1
    finished.append(True)


def fork_child(number):
    child = os.fork()
    if child == 0:
        os._exit(digest(number) % 256)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == digest(number) % 256


done = threading.Event()
finished = []
threads = [threading.Thread(target=allocate_until, args=(done, finished)) for _ in range(4)]
for thread in threads:
    thread.start()
print("children:", sum(fork_child(number) for number in range(FORKS)))
done.set()
for thread in threads:
    thread.join()
print("threads:", len(finished))
print("digest:", digest(0))
large = [bytes(100 << 20) for _ in range(5)]  # more than a heap has room for
print("large:", [any(each[:: 1 << 20]) for each in large])
print(subprocess.run([sys.executable, "-c", "print('a program')"], capture_output=True).stdout)
