# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # the scripts that read this file set and use the rest
# shellcheck disable=SC2030,SC2031,SC2153 # what the subshell sets is meant for it alone
# What tools/kafka and tools/spark have in common: Java, processes that outlive the script, their ports and folders.
#
# The script that reads it has the functions that are used and not defined here, the folder for what is fetched in
# `home`, the folder that it works on in `dir`, and options of the JVM in `JVM_OPTS` and `jvm_opts`.

program=$(basename "$0")
JAVA_MIN=17
STOP_SECONDS_MAX=20

fail() {
    printf '%s: %s\n' "$program" "$1" >&2
    exit 1
}

wrong() {
    printf '%s: %s\n\n' "$program" "$1" >&2
    usage >&2
    exit 2
}

there() { command -v "$1" >/dev/null 2>&1; }

now() { date +%s; }

# The numbers from 1; `seq` counts down to 0 on some systems.
count_to() {
    number=1
    while [ "$number" -le "$1" ]; do
        echo "$number"
        number=$((number + 1))
    done
}

# == Java and what Maven brings

# Sets `java` and `java_version`.
find_java() {
    for java in "${JAVA_HOME:-/nowhere}/bin/java" "$(command -v java || true)" /usr/lib/jvm/*/bin/java \
        /opt/homebrew/opt/openjdk*/bin/java /usr/local/opt/openjdk*/bin/java; do
        if [ -x "$java" ]; then
            java_version=$("$java" -version 2>&1) || continue
            major=$(printf '%s\n' "$java_version" | sed -n 's/.* version "\([0-9]*\).*/\1/p')
            if [ "${major:-0}" -ge "$JAVA_MIN" ]; then return; fi
        fi
    done
    return 1
}

# Sees to it that what the script stands on is in a folder, which has its name only once all is in it, and sets
# `archive` to a file with its classes.
fetch_once() { # FOLDER
    # It fits the Java that made it, and no other.
    archive=$1.$(printf '%s\n' "$java" "$java_version" | cksum | cut -d ' ' -f 1).jsa
    if [ ! -d "$1" ] || [ ! -e "$archive" ]; then
        mkdir -p "$home"
        # One at a time. macOS has no flock: there, two at the same time are on their own.
        (
            exec 8>"$home/lock"
            if there flock; then flock 8; fi
            if [ ! -d "$1" ]; then
                rm -rf "$home/fetching"
                get "$home/fetching"
                mv "$home/fetching" "$1"
            fi
            if [ ! -e "$archive" ]; then archive_classes; fi
        )
    fi
}

# The classes of one that has started, as they are in memory, for the next ones to begin with: they start in half the
# time or less. Nothing rests on it, so a failure is said, remembered by an empty file, and that is all.
archive_classes() {
    printf '%s: making its starts quicker, once\n' "$program" >&2
    rm -f "$home/training.jsa"
    (
        prepare_training
        jvm_opts="-XX:ArchiveClassesAtExit=$home/training.jsa $JVM_OPTS"
        dir=$home/training
        down delete
        up >&2
        down
        down delete
    ) || true
    if [ ! -s "$home/training.jsa" ]; then
        printf '%s: that did not work; it goes without\n' "$program" >&2
        : >"$home/training.jsa"
    fi
    mv "$home/training.jsa" "$archive"
}

# Copies what a pom names into a folder.
maven() { # POM FOLDER
    mvn --batch-mode --quiet -Dstyle.color=never --file "$1" dependency:copy-dependencies \
        -DoutputDirectory="$2" </dev/null >"$home/maven.log" 2>&1 || {
        cat "$home/maven.log" >&2
        fail 'Maven could not get it; what it said is above'
    }
}

# == Processes

# Of a process: its command line; nothing if there is none, or it is about to be gone.
command_line() {
    if [ -d /proc/self ]; then
        { tr '\0' ' ' <"/proc/$1/cmdline"; } 2>/dev/null || true
    else
        ps -ww -o args= -p "$1" || true
    fi
}

# Whether a process that was killed still holds files and ports.
lingers() {
    kill -0 "$1" 2>/dev/null || return 1
    [ -d /proc/self ] || return 0
    # Nobody may have asked yet how it ended; without a thread beside the first it holds nothing.
    ! grep -q '^State:[^A-Za-z]*Z' "/proc/$1/status" 2>/dev/null || [ -n "$(find "/proc/$1/task" -mindepth 1 -maxdepth 1 ! -name "$1" 2>/dev/null)" ]
}

# Sets `pid` and `state` of what was started: running; leaving, when it has been told to end or been killed; or gone.
# It is known by words of its command line, that it leaves by words in its log.
look_at_process() { # FILE-OF-PID WORDS LOG LAST-WORDS
    state=gone
    pid=$(cat "$1" 2>/dev/null) || pid=
    case $pid in '' | *[!0-9]*) return ;; esac
    line=$(command_line "$pid")
    case "$line " in
        *" $2 "*)
            state=running
            # SIGKILL, bit 9, may be on its way.
            if grep -q '^ShdPnd:.*[13579bdf]..$' "/proc/$pid/status" 2>/dev/null || grep -q "$4" "$3"; then
                state=leaving
            fi
            ;;
        ' ') if lingers "$pid"; then state=leaving; fi ;;
    esac
}

# Waits until something is gone, if it is leaving, for at most that many seconds; then fails.
await_end() { # SECONDS WHAT-LOOK_AT-TAKES…
    seconds=$1
    shift
    deadline=$(($(now) + seconds))
    look_at "$@"
    while [ "$state" != gone ]; do
        [ "$(now)" -lt "$deadline" ] || return 1
        sleep 0.02
        look_at "$@"
    done
}

# Starts a command with nothing of the caller's terminal, pipes or locks, so that nobody waits for it, and Ctrl-C does
# not end it. The log of the one before is kept.
start_detached() { # FILE-OF-PID LOG COMMAND…
    file=$1 log=$2
    shift 2
    if [ -e "$log" ]; then mv "$log" "$log.old"; fi
    detach='nohup'
    if there setsid; then detach='setsid'; fi
    "$detach" "$@" </dev/null >"$log" 2>&1 8>&- 9>&- &
    echo $! >"$file"
}

# == Folders

# Only one at a time works on a folder. macOS has no flock: there, two at the same time are on their own.
hold() {
    exec 9>"$dir/lock"
    if there flock; then flock 9; fi
}

# Ports that are taken stay so while the folder of what has them is there, so that one that is down finds its own free.
# They are below those that systems give out by themselves.
ports=${TMPDIR:-/tmp}/scrutin-ports-$(id -u)

# Sets `port` to one that nobody else has taken.
take_port() {
    mkdir -m 700 "$ports" 2>/dev/null || true
    tries=0
    until port=$((20000 + $(od -An -N2 -tu2 /dev/urandom) % 12000)) && ln -s "$dir" "$ports/$port" 2>/dev/null; do
        tries=$((tries + 1))
        [ "$tries" -lt 1000 ] || fail "found no free port, see $ports"
    done
}

# Gives back the ports of this folder, and of those that are gone.
free_ports() {
    for link in "$ports"/*; do
        if [ -L "$link" ]; then
            place=$(readlink "$link") || continue
            if [ "$place" = "$dir" ] || [ ! -d "$place" ]; then rm -f "$link"; fi
        fi
    done
}
