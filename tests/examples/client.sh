#!/bin/sh
# client.sh TENANT USER: ends with 0 if the user has an active session, with 1 if not, with 2 if nobody knows.
# Wants SESSILE_URL and SESSILE_KEY; the key goes by standard input, since others can read arguments. curl asks again
# after 429, 500 and 503, as many seconds later as Retry-After says, and where no connection can be had.
user=$(printf %s "$2" | od -An -v -tx1 | tr -d '\n' | tr ' ' %)
answer=$(printf 'X-API-Key: %s\n' "$SESSILE_KEY" | curl --silent --show-error --fail \
  --connect-timeout 0.5 --max-time 2 --retry 2 --retry-connrefused --retry-max-time 5 \
  -H @- -H "X-Tenant-ID: $1" "$SESSILE_URL/internal/session/sessions/$user/active") || exit 2
case $answer in
  '{"active":true,'*) exit 0 ;;
  '{"active":false,'*) exit 1 ;;
  *) exit 2 ;;
esac
