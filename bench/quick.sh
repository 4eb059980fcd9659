#!/usr/bin/env bash
# Gatehouse against nginx on the same plain work: one route, 64 kept
# connections, access log off on both. The work is 1 KiB of JSON, a download of
# 1 MiB, or an upload of 10 KiB. The proxy has one core, the load
# generator and the backend the other. Rounds are interleaved; the table gives
# medians. CPU is user and system time of the proxy's processes over the
# requests it served.
#
#   bench/quick.sh [rounds] [seconds] [json|download|upload]
#                                          default 5 rounds of 5 seconds of json
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5} seconds=${2:-5} work=${3:-json}
case $work in
  json) path=/ script=() ;;
  download) path=/1m script=() ;;
  upload) path=/ script=(-s bench/upload.lua) ;;
  *) echo "the work is json, download or upload" >&2; exit 2 ;;
esac
[ "$(nproc)" -ge 2 ] || { echo "two cores are needed" >&2; exit 1; }
sudo=$([ "$(id -u)" = 0 ] || echo sudo)
for p in wrk nginx; do
  command -v $p >/dev/null || [ -x /usr/sbin/$p ] || { $sudo apt-get update -q && $sudo apt-get install -yq --no-install-recommends wrk nginx-light; }
done
nginx=$(command -v nginx || echo /usr/sbin/nginx)

dir=$(mktemp -d)
pids=()
finish() { for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done; wait 2>/dev/null || true; rm -rf "$dir"; }
trap finish EXIT

go build -trimpath -o "$dir/gatehouse" ./cmd/gatehouse
go build -trimpath -o "$dir/backend" ./bench/backend
backend=127.0.0.1:18001 gatehouse=127.0.0.1:18002 peer=127.0.0.1:18003

cat > "$dir/tenants.yaml" <<EOF
tenants:
  - id: plain
    domain: plain.test
    backends: [{id: app, endpoints: [{url: "http://$backend"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app}]
EOF
cat > "$dir/gatehouse.yaml" <<EOF
log: {access: "off", level: warn}
EOF
cat > "$dir/nginx.conf" <<EOF
daemon off; pid $dir/nginx.pid; error_log $dir/nginx.log warn; worker_processes 1;
events { worker_connections 1024; }
http {
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path $dir/n1; proxy_temp_path $dir/n2; fastcgi_temp_path $dir/n3; uwsgi_temp_path $dir/n4; scgi_temp_path $dir/n5;
  upstream app { server $backend; keepalive 128; keepalive_requests 1000000000; }
  server {
    listen $peer; server_name plain.test;
    location / {
      proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host \$host;
      proxy_set_header X-Forwarded-For \$remote_addr; proxy_set_header X-Request-Id \$request_id;
    }
  }
}
EOF
taskset -c 1 "$dir/backend" $backend & pids+=($!)
GOMAXPROCS=1 taskset -c 0 "$dir/gatehouse" run --config "$dir/gatehouse.yaml" --tenants "$dir/tenants.yaml" --data "$dir/data" \
  --listen $gatehouse --control 127.0.0.1:18004 2>"$dir/gatehouse.log" & pids+=($!); gatehouse_pid=$!
taskset -c 0 "$nginx" -c "$dir/nginx.conf" & pids+=($!); nginx_pid=$!
for a in $gatehouse $peer; do
  for _ in $(seq 100); do curl -sf -o /dev/null -H 'Host: plain.test' "http://$a/" && break; sleep 0.1; done
  [ "$(curl -s -H 'Host: plain.test' "http://$a/" | wc -c)" = 1024 ] || { echo "$a does not proxy" >&2; cat "$dir"/*.log >&2; exit 1; }
done
[ "$(curl -s -o /dev/null -w '%{http_code}' -H 'Host: other.test' "http://$gatehouse/")" = 404 ] || { echo "gatehouse serves an unknown host" >&2; exit 1; }

# ticks PID: clock ticks of a process and its children so far
ticks() { local sum=0 p; for p in $1 $(pgrep -P "$1" || true); do sum=$((sum + $(awk '{print $14+$15}' "/proc/$p/stat"))); done; echo $sum; }
hz=$(getconf CLK_TCK)

# round NAME PID ADDR: one line of name, requests a second, CPU µs a request, p50 and p99
round() {
  local before after out
  before=$(ticks "$2")
  out=$(taskset -c 1 wrk -t1 -c64 -d"${seconds}s" --latency "${script[@]}" -H 'Host: plain.test' "http://$3$path")
  after=$(ticks "$2")
  if grep -qE 'Socket errors|Non-2xx' <<<"$out"; then echo "$1: errors under load" >&2; echo "$out" >&2; exit 1; fi
  awk -v name="$1" -v ticks=$((after - before)) -v hz="$hz" '
    /requests in/ {n=$1} /Requests\/sec/ {rps=$2} $1=="50%" {p50=$2} $1=="99%" {p99=$2}
    END {printf "%s %.0f %.2f %s %s\n", name, rps, ticks/hz*1e6/n, p50, p99}' <<<"$out"
}
for _ in $(seq "$rounds"); do
  round gatehouse "$gatehouse_pid" $gatehouse
  round nginx "$nginx_pid" $peer
done > "$dir/results"

median() { awk -v n="$1" -v c="$2" '$1==n {print $c}' "$dir/results" | sort -n | awk '{v[NR]=$1} END {print v[int((NR+1)/2)]}'; }
range() { awk -v n="$1" '$1==n {print $3}' "$dir/results" | sort -n | awk 'NR==1 {lo=$1} {hi=$1} END {print lo "–" hi}'; }
printf '%-10s %10s %14s %16s %10s %10s\n' "$work" "req/s" "CPU µs/req" "(min–max)" p50 p99
for n in gatehouse nginx; do
  printf '%-10s %10s %14s %16s %10s %10s\n' $n "$(median $n 2)" "$(median $n 3)" "$(range $n)" "$(median $n 4)" "$(median $n 5)"
done
awk -v g="$(median gatehouse 3)" -v n="$(median nginx 3)" 'BEGIN {printf "CPU per request, gatehouse to nginx: %.2f\n", g/n}'
