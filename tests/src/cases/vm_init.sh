#!/bin/sh
# The first process of the virtual machine. What it checks is printed as `ok WHAT` or `FAILED WHAT: GOT`.
export PATH=/bin:/opt
if [ "$1" != second ]; then
    # pivot_root(2) does not work on the initramfs itself.
    mkdir -p /new && mount -t tmpfs -o size=80% none /new
    cp -a /bin /sbin /etc /lib /lib64 /usr /opt /fixtures /modules /init /new 2>/dev/null
    cd /new && mkdir -p proc sys dev tmp run var root
    exec switch_root /new /init second
fi
mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev
mkdir -p /dev/pts /dev/shm; mount -t devpts none /dev/pts; mount -t tmpfs none /dev/shm
mount -t cgroup2 none /sys/fs/cgroup
for module in /modules/*.ko; do insmod $module || echo "cannot load $module"; done
ip link set lo up
uptime() { cut -d' ' -f1 /proc/uptime; }
at() { echo "--- $*, at $(uptime) s"; }
at "kernel $(uname -r)"

export DOCKER_HOST=unix:///run/ferry.sock
groups=/sys/fs/cgroup/ferry

is() { # WHAT EXPECTED COMMAND…
    what=$1; expected=$2; shift 2; got=$("$@" 2>&1)
    if [ "$got" = "$expected" ]; then echo "ok $what"; else echo "FAILED $what: $got"; fi
}
has() { # WHAT PATTERN COMMAND…
    what=$1; pattern=$2; shift 2; got=$("$@" 2>&1)
    case $got in $pattern) echo "ok $what" ;; *) echo "FAILED $what: $got" ;; esac
}
code() { "$@" >/dev/null 2>&1; echo $?; }
state() { ferry inspect -f "{{.State.$2}}" $1; }
group() { cat $groups/$(ferry inspect -f '{{.Id}}' $1)/$2; }
count() { "$@" 2>/dev/null | wc -l; }
fetch() { printf "GET / HTTP/1.0\r\n\r\n" | nc -w 3 $1 8080 | tail -n 1; }
start_daemon() {
    # As a service manager does it: in a group of its own, which has a process and thus hands nothing down.
    sh -c 'echo $$ >/sys/fs/cgroup/daemon/cgroup.procs; exec ferry daemon -H $DOCKER_HOST --data-root /var/ferry \
        --exec-root /run/ferry --pidfile /run/ferry.pid --bridge ferry0 --bip 10.9.8.1/24 \
        --add-runtime other-runc=runc --add-runtime crun=crun >>/tmp/log 2>&1' &
    i=0; while [ $i -lt 200 ] && ! ferry version >/dev/null 2>&1; do i=$((i+1)); sleep 0.1; done
}

mkdir /sys/fs/cgroup/daemon
start_daemon
is cgroup-version 2 ferry info --format '{{.CgroupVersion}}'
has import 'sha256:*' ferry import /fixtures/busybox.tar busybox
is run hello ferry run --rm busybox echo hello
is exit-code 7 code ferry run --rm busybox sh -c 'exit 7'

at limits
# Limits are set, hold, and change while the container runs.
ferry run -d --name limited --memory 32m --cpus 0.5 --pids-limit 20 --cpu-shares 2048 busybox \
    sh -c 'while :; do :; done' >/dev/null
is memory-max 33554432 group limited memory.max
is swap-max 33554432 group limited memory.swap.max
is cpu-max '50000 100000' group limited cpu.max
is pids-max 20 group limited pids.max
has fork-bomb "*can't fork*" ferry exec limited sh -c 'for i in $(seq 30); do sleep 5 & done'
has fork-bomb-counted 'max [1-9]*' group limited pids.events
throttled() { group limited cpu.stat | awk '/nr_throttled/ { print ($2 > 0) }'; }
is cpu-throttled 1 throttled
is update limited ferry update --memory 64m --memory-swap 64m --cpus 0.2 --pids-limit 30 limited
is updated-memory 67108864 group limited memory.max
is updated-swap 0 group limited memory.swap.max
is updated-cpu '20000 100000' group limited cpu.max
is updated-pids 30 group limited pids.max
stats() { ferry stats --no-stream --format '{{.CPUPerc}} {{.MemUsage}} {{.PIDs}}' limited; }
sane() { # CPU% USAGE / LIMIT PIDS: a fifth of a processor, some memory of 64 MiB, a few processes.
    stats | tee /tmp/stats | awk '{ c = $1 + 0; m = $2 + 0; print (c > 5 && c < 45 && m > 0 && $4 == "64MiB" && $5 >= 1 && $5 <= 30) }'
}
is stats 1 sane; echo "   $(cat /tmp/stats)"

at freezer
# The freezer.
is pause limited ferry pause limited
is paused paused state limited Status
has frozen '*frozen 1*' group limited cgroup.events
is unpause limited ferry unpause limited
is running running state limited Status
is exec there ferry exec limited echo there
is kill limited ferry kill limited
is killed 137 state limited ExitCode
is start limited ferry start limited
is memory-max-again 67108864 group limited memory.max
is restart limited ferry restart -t 1 limited
is restarted running state limited Status
is stop limited ferry stop -t 1 limited
is stopped exited state limited Status
ferry pause limited >/dev/null 2>&1
ferry rm limited >/dev/null

at memory
# The limit of memory kills, and that is known.
is out-of-memory 137 code ferry run --name hog --memory 16m --memory-swap 16m busybox dd if=/dev/zero of=/dev/null bs=200M count=1
is out-of-memory-known true state hog OOMKilled
is not-out-of-memory false state hog Paused
ferry rm hog >/dev/null

# Devices: the guard of the group refuses what is not allowed, though nodes can be made.
dd if=/dev/zero of=/tmp/disk bs=1M count=1 2>/dev/null; losetup /dev/loop0 /tmp/disk
has device-refused '*Operation not permitted*' ferry run --rm busybox sh -c 'mknod /tmp/d b 7 0 && dd if=/tmp/d of=/dev/null count=1'
is device-null 0 code ferry run --rm busybox sh -c 'echo x >/dev/null && head -c 1 /dev/urandom'
is device-allowed 0 code ferry run --rm --device /dev/loop0:/dev/disk:r busybox dd if=/dev/disk of=/dev/null count=1
is device-read-only 1 code ferry run --rm --device /dev/loop0:/dev/disk:r busybox dd if=/dev/zero of=/dev/disk count=1
is device-privileged 0 code ferry run --rm --privileged busybox dd if=/dev/zero of=/dev/loop0 count=1
losetup -d /dev/loop0

at views
# The view of the groups.
is cgroup-namespace 0::/ ferry run --rm busybox cat /proc/self/cgroup
is cgroup-namespace-private 0::/ ferry run --rm --cgroupns private busybox cat /proc/self/cgroup
has cgroup-namespace-host '0::/ferry/*' ferry run --rm --cgroupns host busybox cat /proc/self/cgroup
is own-limit 33554432 ferry run --rm --memory 32m busybox cat /sys/fs/cgroup/memory.max
has cgroup-read-only '*Read-only file system*' ferry run --rm busybox sh -c 'echo max >/sys/fs/cgroup/memory.max'
is cgroup-writable 0 code ferry run --rm --security-opt writable-cgroups=true busybox mkdir /sys/fs/cgroup/below
is cgroup-privileged 0 code ferry run --rm --privileged busybox mkdir /sys/fs/cgroup/below
has masked '*No such file*' ferry run --rm busybox sh -c 'ls /proc/acpi/* /sys/firmware/*'
has proc-read-only '*Read-only file system*' ferry run --rm busybox sh -c 'echo 1 >/proc/sys/kernel/panic'
has root-read-only '*Read-only file system*' ferry run --rm --read-only busybox touch /x
mkdir /tmp/shared; echo shared >/tmp/shared/file
is bind shared ferry run --rm -v /tmp/shared:/s:ro busybox cat /s/file
has bind-read-only '*Read-only file system*' ferry run --rm -v /tmp/shared:/s:ro busybox touch /s/x
is terminal 0 code ferry run --rm -t busybox tty

at layers
# Many layers, and a layer made here.
is load 'Loaded image: layers:latest' ferry load -i /fixtures/layers.tar
is layers 126 ferry run --rm layers sh -c 'ls / | grep -c layer'
ferry run --name changed layers sh -c 'rm -r /layer7 /etc/passwd; echo new >/new'
has commit 'sha256:*' ferry commit changed changed
is committed '125 new' ferry run --rm changed sh -c 'test ! -e /etc/passwd && echo $(ls / | grep -c layer) $(cat /new)'
ferry rm changed >/dev/null

at life
# Restarts, probes, an init, names on a network of one's own.
ferry run -d --name again --restart on-failure:2 busybox sh -c 'sleep 0.1; exit 3' >/dev/null
ferry run -d --name well --health-cmd 'test -e /tmp/well' --health-interval 1s --health-retries 1 busybox sh -c 'touch /tmp/well; sleep 1000' >/dev/null
has own-network '*' ferry network create names
ferry run -d --name one --network names --memory 32m busybox sleep 1000 >/dev/null
is name-resolved 0 code ferry run --rm --network names busybox ping -c 1 -W 3 one
is init-first docker-init ferry run --rm --init busybox cat /proc/1/comm
is init-forwards 143 code ferry run --rm --init busybox sh -c 'kill -TERM 1; sleep 5'
health() { ferry inspect -f '{{.State.Health.Status}}' well; }
until_is() { i=0; while [ $i -lt 100 ] && [ "$($2)" != $1 ]; do i=$((i+1)); sleep 0.1; done; $2; }
is healthy healthy until_is healthy health
ferry exec well rm /tmp/well
is unhealthy unhealthy until_is unhealthy health
is paused-while-probed well ferry pause well
is probed-again 0 code ferry unpause well
restarts() { ferry inspect -f '{{.RestartCount}}' again; }
is restarts 2 until_is 2 restarts
is gave-up exited until_is exited 'state again Status'
is one-left 0 code ferry rm -f one well again
is network-removed names ferry network rm names

at runtimes
# Other runtimes make the groups themselves; ferry finds them where it expects them.
with() { # RUNTIME
    ferry run -d --name other --runtime $1 --memory 32m --pids-limit 20 --health-cmd 'sleep 77 & sleep 78' \
        --health-interval 1s --health-timeout 1s --health-retries 1 busybox sleep 1000
}
other_health() { ferry inspect -f '{{.State.Health.Status}}' other; }
is runc-run hello ferry run --rm --runtime other-runc busybox echo hello
is runc-exit-code 7 code ferry run --rm --runtime other-runc busybox sh -c 'exit 7'
is runc-not-found 127 code ferry run --rm --runtime other-runc busybox no-such-program
is runc-terminal 0 code ferry run --rm -t --runtime other-runc busybox tty
has runc-start '*' with other-runc
is runc-memory-max 33554432 group other memory.max
is runc-pids-max 20 group other pids.max
is runc-exec there ferry exec other echo there
is runc-probe-too-slow unhealthy until_is unhealthy other_health
is runc-pause other ferry pause other
has runc-frozen '*frozen 1*' group other cgroup.events
is runc-thawed other ferry unpause other
is runc-update other ferry update --memory 64m --memory-swap 64m other
is runc-updated-memory 67108864 group other memory.max
is runc-out-of-memory 137 code ferry run --rm --runtime other-runc --memory 16m --memory-swap 16m busybox dd if=/dev/zero of=/dev/null bs=200M count=1
is runc-removed other ferry rm -f other
is crun-run hello ferry run --rm --runtime crun busybox echo hello
is crun-exit-code 7 code ferry run --rm --runtime crun busybox sh -c 'exit 7'
is crun-not-found 127 code ferry run --rm --runtime crun busybox no-such-program
is crun-terminal 0 code ferry run --rm -t --runtime crun busybox tty
has crun-start '*' with crun
is crun-memory-max 33554432 group other memory.max
is crun-pids-max 20 group other pids.max
is crun-exec there ferry exec other echo there
is crun-probe-too-slow unhealthy until_is unhealthy other_health
is crun-pause other ferry pause other
has crun-frozen '*frozen 1*' group other cgroup.events
is crun-thawed other ferry unpause other
is crun-update other ferry update --memory 64m --memory-swap 64m other
is crun-updated-memory 67108864 group other memory.max
is crun-out-of-memory 137 code ferry run --rm --runtime crun --memory 16m --memory-swap 16m busybox dd if=/dev/zero of=/dev/null bs=200M count=1
is crun-removed other ferry rm -f other

at controllers
# Limits where a controller is missing: a group with a process hands nothing down.
mkdir /sys/fs/cgroup/busy; sleep 1000 & sleeper=$!; echo $sleeper >/sys/fs/cgroup/busy/cgroup.procs
is without-controllers fine ferry run --rm --cgroup-parent /busy/below busybox echo fine
has missing-memory '*memory*controller*' ferry run --rm --cgroup-parent /busy/below --memory 32m busybox true
has missing-pids '*pids*controller*' ferry run --rm --cgroup-parent /busy/below --pids-limit 9 busybox true
kill $sleeper

at nested
# ferry in a container of ferry: its hierarchy's root is a group with processes, until they are moved away.
cat >/tmp/nested <<'END'
ferry daemon -H $DOCKER_HOST --data-root /data --exec-root /run/ferry --bridge ferry0 --bip 10.9.7.1/24 >/tmp/log 2>&1 &
i=0; while [ $i -lt 200 ] && ! ferry version >/dev/null 2>&1; do i=$((i+1)); sleep 0.1; done
ferry import /fixtures/busybox.tar busybox >/dev/null
ferry run --rm busybox echo run
ferry run --rm --memory 32m busybox true 2>&1 | grep -o 'no memory controller'
mkdir /sys/fs/cgroup/init
for pid in $(cat /sys/fs/cgroup/cgroup.procs); do echo $pid >/sys/fs/cgroup/init/cgroup.procs; done 2>/dev/null
ferry run --rm --memory 32m busybox cat /sys/fs/cgroup/memory.max
END
nested() {
    ferry run --rm --privileged --tmpfs /data:exec -v /opt:/opt -v /lib:/lib -v /lib64:/lib64 -v /fixtures:/fixtures \
        -v /tmp/nested:/nested -e PATH -e DOCKER_HOST busybox sh /nested | tr '\n' ' '
}
is nested 'run no memory controller 33554432 ' nested

at adoption
# A published port, the death of the daemon, and what is left.
ferry run -d --name web -p 8080:80 busybox sh -c 'mkdir /www; echo served >/www/index.html; httpd -f -p 80 -h /www' >/dev/null
sleep 0.5
is port served fetch 127.0.0.1
is port-on-bridge served fetch 10.9.8.1
kill -9 $(cat /run/ferry.pid); sleep 0.3
start_daemon
is adopted running state web Status
is adopted-exec there ferry exec web echo there
is adopted-port served fetch 127.0.0.1
is adopted-pause web ferry pause web
is adopted-paused paused state web Status
is adopted-update web ferry update --memory 64m --memory-swap 64m web
is adopted-kill web ferry rm -f web
sleep 1
is no-groups-left 0 count find $groups /sys/fs/cgroup/busy/below -mindepth 1 -type d
is no-mounts-left 0 count grep -E ' overlay |/var/ferry/containers' /proc/self/mountinfo
echo '--- log'; grep -v ' INFO ' /tmp/log | tail -n 20
dmesg | grep -iE 'overlayfs|BUG|WARNING' | head
at end; echo "END OF TESTS"
poweroff -f
