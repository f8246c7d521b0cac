"""Run a plan twice with one task: the hazard of repeating a PUT on a time-out.

Usage: double_run.py URL SERVER_PID FILE. The server's main process is stopped for 2.5 s; a client sends
PUT /worker/task, hears nothing for 1 s, and sends it again. Prints the two answers and the
number of lines that the plan wrote to FILE: one for each run.
"""

import json, os, signal, sys, threading, time, urllib.error, urllib.request

url, pid, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]


def send(method, where, body, answers):
    request = urllib.request.Request(url + where, json.dumps(body).encode(), {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request) as reply:
            answers.append((reply.status, json.load(reply)))
    except urllib.error.HTTPError as error:
        answers.append((error.code, error.read().decode()))


plan = {"name": "slow_start", "params": {"seconds": 6, "path": path}, "instrument_session": "cm12345-1"}
answers = []
busy = [threading.Thread(target=send, args=("POST", "/tasks", plan, [])) for _ in range(8)]
[t.start() for t in busy] and [t.join() for t in busy]  # a server in use has its threads at hand
send("POST", "/tasks", plan, answers)
task = {"task_id": answers.pop()[1]["task_id"]}
os.kill(pid, signal.SIGSTOP)
puts = [threading.Thread(target=send, args=("PUT", "/worker/task", task, answers)) for _ in range(2)]
for put in puts:
    put.start()
    time.sleep(1)
time.sleep(0.5)
os.kill(pid, signal.SIGCONT)
for put in puts:
    put.join()
time.sleep(14)  # both runs, one after the other
print("answers:", sorted(status for status, _ in answers), "runs:", sum(1 for _ in open(path)))
