#!/bin/sh
# Installs the services that tests start for themselves, where they are missing: as root on Debian, without a question.
# `install-services.sh bench` installs what benchmarks need beside that: wrk, and node for one of the peers.
# Packages come with daemons of their own; those are not started, because every test run brings up its own.
set -eu

missing=""
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"
[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || missing="$missing rabbitmq-server"
[ -x /usr/sbin/smtp-sink ] || missing="$missing postfix"
[ -x /usr/sbin/haproxy ] || missing="$missing haproxy"
[ -x /usr/bin/chromium ] || missing="$missing chromium"
ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || missing="$missing libfaketime"
if [ "${1:-}" = bench ]; then
    [ -x /usr/bin/wrk ] || missing="$missing wrk"
    command -v node >/dev/null || missing="$missing nodejs"
    command -v npm >/dev/null || missing="$missing npm"
fi
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "These services are needed and not installed:$missing (on Debian, as root: apt-get install$missing)" >&2
    exit 1
fi

# While this file says 101, maintainer scripts start no daemon (invoke-rc.d(8)). One that is there already is kept.
if [ ! -e /usr/sbin/policy-rc.d ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
fi

echo "Installing$missing"
export DEBIAN_FRONTEND=noninteractive
# Postfix is wanted for its smtp-sink, and by benchmarks for instances of their own: none for this machine.
echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
apt-get update -qq
# shellcheck disable=SC2086  # a list of packages, not one
apt-get install -qq -y --no-install-recommends $missing >/dev/null
