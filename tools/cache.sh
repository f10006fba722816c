# shellcheck shell=sh
# shellcheck disable=SC2034 # the scripts that read this file use it
# Where the tools keep what they fetch, for all clones on this machine: Kafka, Spark, and the checks' own libraries. It may be
# deleted at any time; what is needed is fetched again.
cache=${SCRUTIN_CACHE_DIR:-${XDG_CACHE_HOME:-${HOME:?is not set, so name a folder in SCRUTIN_CACHE_DIR}/.cache}/scrutin}
