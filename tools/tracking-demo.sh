#!/usr/bin/env bash
# The demo project's sweep over six ranks, recorded at a real MLflow server and looked at with MLflow's own Python client:
# runs, parameters, metrics with history, inputs, artifacts, models. STEPS=24 of training each; KEEP=1 leaves the server running, PAGE=FILE takes a
# picture of its page.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD demo=$PWD/build/tracking-demo
export SERVICES_VENV=${SERVICES_VENV:-$PWD/build/services/mlflow/venv}
[ -n "${KEEP-}" ] || trap '"$root/tools/services/mlflow.sh" down "$root/build/services/mlflow-demo"' EXIT
eval "$(tools/services/mlflow.sh up "$root/build/services/mlflow-demo")"
rm -rf "$demo"
bin/lpipe -q init --demo "$demo"
cd "$demo"
sed -i "s/steps           = 280/steps           = ${STEPS:-24}/" pipeline.hcl
cat >>pipeline.hcl <<HCL
experiment "ranks" {
  targets = ["tuned"]
  matrix  = { rank = [2, 4, 8, 16, 32, 64] }
  metric  = "tuned.accuracy"
  goal    = "max"
}
tracking "mlflow" { experiment = "demo-$(date +%s)" }
HCL
export MLFLOW_TRACKING_URI=$LPIPE_TEST_MLFLOW
"$root/bin/lpipe" -q exp run ranks
"$root/bin/lpipe" tracking sync
"$root/bin/lpipe" models register demo lora.adapter --from ranks/rank=16 --alias champion
"$LPIPE_TEST_MLFLOW_PYTHON" "$root/tools/tracking_check.py" "$MLFLOW_TRACKING_URI" "$(sed -n 's/^tracking "mlflow" { experiment = "\(.*\)" }/\1/p' pipeline.hcl)" "${STEPS:-24}"
echo "the server's page: $MLFLOW_TRACKING_URI"
