# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # the scripts that read this file set and use the rest
# shellcheck disable=SC2030,SC2031,SC2153 # what the subshell sets is meant for it alone
# Shared by tools/kafka and tools/spark: Java, processes that outlive the script, their ports and folders.
#
# The script that sources this file defines the functions that are used but not defined here, and sets `home` to the
# folder for downloads, `dir` to the folder it works on, and `JVM_OPTS` and `jvm_opts` to options for the JVM.

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

# == Java and Maven

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

# Downloads the script's dependencies into a folder if necessary, and sets `archive` to a file with their classes. The
# folder gets its final name only once it is complete.
fetch_once() { # FOLDER
    # An archive only works with the Java that created it.
    archive=$1.$(printf '%s\n' "$java" "$java_version" | cksum | cut -d ' ' -f 1).jsa
    if [ ! -d "$1" ] || [ ! -e "$archive" ]; then
        mkdir -p "$home"
        # One download at a time. macOS has no flock, so there is no protection from simultaneous downloads there.
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

# Archives the loaded classes of a started process, so that later starts take half the time or less. It is only an
# optimization: a failure is reported, and remembered by an empty file.
archive_classes() {
    printf '%s: archiving classes once, for faster starts\n' "$program" >&2
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
        printf '%s: the class archive failed; continuing without it\n' "$program" >&2
        : >"$home/training.jsa"
    fi
    mv "$home/training.jsa" "$archive"
}

# Copies the dependencies in a pom into a folder.
maven() { # POM FOLDER
    mvn --batch-mode --quiet -Dstyle.color=never --file "$1" dependency:copy-dependencies \
        -DoutputDirectory="$2" </dev/null >"$home/maven.log" 2>&1 || {
        cat "$home/maven.log" >&2
        fail 'Maven could not download it; see its output above'
    }
}

# == Processes

# Prints the command line of a process; nothing if the process is gone or about to be.
command_line() {
    if [ -d /proc/self ]; then
        { tr '\0' ' ' <"/proc/$1/cmdline"; } 2>/dev/null || true
    else
        ps -ww -o args= -p "$1" || true
    fi
}

# Whether a killed process still holds files and ports.
lingers() {
    kill -0 "$1" 2>/dev/null || return 1
    [ -d /proc/self ] || return 0
    # It may be a zombie that nobody has waited for; without other threads than the first it holds nothing.
    ! grep -q '^State:[^A-Za-z]*Z' "/proc/$1/status" 2>/dev/null || [ -n "$(find "/proc/$1/task" -mindepth 1 -maxdepth 1 ! -name "$1" 2>/dev/null)" ]
}

# Sets `pid` and `state` of a started process: running; leaving, if it has been asked to end or was killed; or gone. Words
# in its command line identify it, and words in its log show that it is leaving.
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

# Waits until a process is gone, and fails after the given number of seconds.
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

# Starts a command detached from the caller's terminal, pipes and locks, so that nobody waits for it and Ctrl-C does not
# end it. The previous log is kept.
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

# Locks the folder. macOS has no flock, so there is no protection from simultaneous use there.
hold() {
    exec 9>"$dir/lock"
    if there flock; then flock 9; fi
}

# A port stays reserved for as long as its owner's folder exists, so that a stopped process finds its port free. All ports
# are below the range that systems assign automatically.
ports=${TMPDIR:-/tmp}/scrutin-ports-$(id -u)

# Reserves a free port and sets `port` to it.
take_port() {
    mkdir -m 700 "$ports" 2>/dev/null || true
    tries=0
    until port=$((20000 + $(od -An -N2 -tu2 /dev/urandom) % 12000)) && ln -s "$dir" "$ports/$port" 2>/dev/null; do
        tries=$((tries + 1))
        [ "$tries" -lt 1000 ] || fail "found no free port, see $ports"
    done
}

# Releases the ports of this folder, and of folders that no longer exist.
free_ports() {
    for link in "$ports"/*; do
        if [ -L "$link" ]; then
            place=$(readlink "$link") || continue
            if [ "$place" = "$dir" ] || [ ! -d "$place" ]; then rm -f "$link"; fi
        fi
    done
}
