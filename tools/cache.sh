# shellcheck shell=sh
# shellcheck disable=SC2034 # the scripts that read this file use it
# The folder where the tools keep their downloads, for all clones on this machine: Kafka, Spark, and the checks' libraries. You
# may delete it at any time; the tools download what they need again.
cache=${SCRUTIN_CACHE_DIR:-${XDG_CACHE_HOME:-${HOME:?is not set; name a folder in SCRUTIN_CACHE_DIR}/.cache}/scrutin}
