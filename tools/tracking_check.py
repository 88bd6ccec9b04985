"""Checks the demo's sweep at an MLflow server by MLflow's own client: tracking_check.py URI EXPERIMENT STEPS (tools/tracking-demo.sh)."""
import json
import sys
import tempfile
from pathlib import Path

import mlflow
from mlflow import MlflowClient

uri, experiment, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
mlflow.set_tracking_uri(uri)
client = MlflowClient()
runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id], max_results=1000)
by_id = {r.info.run_id: r for r in runs}
parent = lambda r: by_id.get(r.data.tags.get("mlflow.parentRunId"))


def check(what, got, want):
    if got != want:
        sys.exit(f"{what}: {got!r}, want {want!r}")


tops = [r for r in runs if parent(r) is None]
check("runs at the top", [(r.info.run_name, r.info.status) for r in tops], [("ranks", "FINISHED")])
instances = [r for r in runs if parent(r) is tops[0]]
ranks = ["2", "4", "8", "16", "32", "64"]
check("instances", sorted(r.info.run_name for r in instances), sorted(f"rank={n}" for n in ranks))
models = 0
for instance in instances:
    rank = instance.info.run_name.removeprefix("rank=")
    check("status", instance.info.status, "FINISHED")
    check("rank", (instance.data.params["rank"], instance.data.params["lora.rank"]), (rank, rank))
    accuracy = instance.data.metrics["tuned.accuracy"]
    stages = {r.data.tags["lpipe.stage"]: r for r in runs if parent(r) is instance}
    lora, tuned = stages["lora"], stages["tuned"]
    check("instance's tag", lora.data.tags["lpipe.instance"], f"rank={rank}")
    check("parameter", lora.data.params["lora.rank"], rank)
    check("accuracy", tuned.data.metrics["tuned.accuracy"], accuracy)
    for metric in "train/loss", "train/grad_norm", "train/lr":
        history = client.get_metric_history(lora.info.run_id, metric)
        check(f"steps of {metric}", sorted(m.step for m in history), list(range(1, steps + 1)))
    curve = {m.step: m.value for m in client.get_metric_history(lora.info.run_id, "train/loss")}
    with tempfile.TemporaryDirectory() as temp:
        lines = Path(client.download_artifacts(lora.info.run_id, "curve.jsonl", temp)).read_text().splitlines()
        told = {row["step"]: row["train/loss"] for row in map(json.loads, lines) if row.get("train/loss") is not None}
        check("curve as a file and as metrics", curve, told)
        metrics = json.loads(Path(client.download_artifacts(tuned.info.run_id, "metrics.json", temp)).read_text())
        check("metrics as a file", metrics["accuracy"], accuracy)
    inputs = {i.dataset.name: [t.value for t in i.tags] for i in lora.inputs.dataset_inputs}
    check("inputs", inputs, {"build/sets/train": ["training"], "build/sets/validation": ["validation"]})
    for output in lora.outputs.model_outputs:
        model = client.get_logged_model(output.model_id)
        check("model", (str(model.status), model.model_type, model.source_run_id), ("READY", "peft", lora.info.run_id))
        files = {Path(a.path).name for a in mlflow.artifacts.list_artifacts(artifact_uri=model.artifact_location)}
        check("model's files", {"MLmodel", "adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} - files, set())
        models += 1
check("models", models, len(ranks))
champion = client.get_model_version_by_alias("demo", "champion")
with tempfile.TemporaryDirectory() as temp:
    at = mlflow.artifacts.download_artifacts("models:/demo@champion", dst_path=temp)
    check("champion's rank", json.loads((Path(at) / "adapter_config.json").read_text())["r"], 16)
print(f"{len(runs)} runs, {models} models, version {champion.version} is champion: as they should be")
