"""What a controller manager makes of workloads: pods, ReplicaSets, claims and their status. Pure, but for sameness."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from puppet_pods import condition, now_text, place

Manifest = dict[str, Any]


def fingerprint(*parts: Any) -> str:
    """Return ten letters that stand for ``parts``; names made of them stay the same when asked again."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]


def owner(manifest: Manifest, kind: str, api_version: str) -> list[Manifest]:
    """Return ownerReferences to a controller."""
    metadata = manifest["metadata"]
    reference = {"apiVersion": api_version, "kind": kind, "name": metadata["name"], "uid": metadata["uid"]}
    return [{**reference, "controller": True, "blockOwnerDeletion": True}]


def owned(objects: Sequence[Manifest], by: Manifest) -> list[Manifest]:
    """Return those that ``by`` owns."""
    uid = by["metadata"]["uid"]
    return [m for m in objects if any(r["uid"] == uid for r in m["metadata"].get("ownerReferences") or ())]


def is_ready(pod: Manifest) -> bool:
    """Say whether a pod is ready and not going."""
    conditions = pod.get("status", {}).get("conditions") or ()
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def pod_of(workload: Manifest, kind: str, api_version: str, name: str, labels: Mapping[str, str]) -> Manifest:
    """Return a pod of a workload's template."""
    template = workload["spec"]["template"]
    metadata = template.get("metadata") or {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": workload["metadata"]["namespace"],
            "labels": {**(metadata.get("labels") or {}), **labels},
            "annotations": dict(metadata.get("annotations") or {}),
            "ownerReferences": owner(workload, kind, api_version),
        },
        "spec": dict(template["spec"]),
    }


def replica_set(deployment: Manifest) -> Manifest:
    """Return the ReplicaSet of a Deployment's present template."""
    spec = deployment["spec"]
    stamp = fingerprint(spec["template"])
    template = dict(spec["template"])
    hashed = {**((template.get("metadata") or {}).get("labels") or {}), "pod-template-hash": stamp}
    template["metadata"] = {**(template.get("metadata") or {}), "labels": hashed}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{deployment['metadata']['name']}-{stamp}",
            "namespace": deployment["metadata"]["namespace"],
            "labels": hashed,
            "ownerReferences": owner(deployment, "Deployment", "apps/v1"),
        },
        "spec": {
            "replicas": spec.get("replicas", 1),
            "selector": {"matchLabels": {**(spec["selector"].get("matchLabels") or {}), "pod-template-hash": stamp}},
            "template": template,
        },
    }


def replica_pods(replicas: Manifest) -> Iterator[Manifest]:
    """Yield the pods of a ReplicaSet."""
    for number in range(replicas["spec"].get("replicas", 1)):
        name = f"{replicas['metadata']['name']}-{fingerprint(replicas['metadata']['uid'], number)[:5]}"
        yield pod_of(replicas, "ReplicaSet", "apps/v1", name, {})


def stateful_pods(workload: Manifest) -> Iterator[Manifest]:
    """Yield the pods of a StatefulSet, with the claims of its templates mounted."""
    name = workload["metadata"]["name"]
    stamp = {"controller-revision-hash": fingerprint(workload["spec"]["template"])}
    for number in range(workload["spec"].get("replicas", 1)):
        pod = pod_of(workload, "StatefulSet", "apps/v1", f"{name}-{number}", stamp)
        claims = [
            {
                "name": t["metadata"]["name"],
                "persistentVolumeClaim": {"claimName": f"{t['metadata']['name']}-{name}-{number}"},
            }
            for t in workload["spec"].get("volumeClaimTemplates") or ()
        ]
        pod["spec"]["volumes"] = [*(pod["spec"].get("volumes") or ()), *claims]
        yield pod


def claims(workload: Manifest) -> Iterator[Manifest]:
    """Yield the PersistentVolumeClaims of a StatefulSet; nobody owns them, so they outlive it."""
    metadata, selected = workload["metadata"], workload["spec"]["selector"].get("matchLabels") or {}
    for template in workload["spec"].get("volumeClaimTemplates") or ():
        for number in range(workload["spec"].get("replicas", 1)):
            labels = {**(template["metadata"].get("labels") or {}), **selected}
            name = f"{template['metadata']['name']}-{metadata['name']}-{number}"
            yield {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": metadata["namespace"], "labels": labels},
                "spec": template["spec"],
            }


def daemon_pods(workload: Manifest, nodes: Sequence[Manifest]) -> Iterator[Manifest]:
    """Yield one pod for each node that may have one, on it already."""
    stamp = {"controller-revision-hash": fingerprint(workload["spec"]["template"])}
    tolerating = {"key": "", "operator": "Exists"}
    for found in nodes:
        node = found["metadata"]["name"]
        name = f"{workload['metadata']['name']}-{fingerprint(workload['metadata']['uid'], node)[:5]}"
        pod = pod_of(workload, "DaemonSet", "apps/v1", name, stamp)
        pod["spec"]["tolerations"] = [*(pod["spec"].get("tolerations") or ()), tolerating]
        if place(pod, [found], {}):
            pod["spec"]["nodeName"] = node
            yield pod


def job_pods(job: Manifest) -> Iterator[Manifest]:
    """Yield the pods of a Job, as many as may run side by side."""
    spec = job["spec"]
    for number in range(min(spec.get("parallelism", 1), spec.get("completions", 1))):
        labels = (
            {"batch.kubernetes.io/job-completion-index": str(number)} if spec.get("completionMode") == "Indexed" else {}
        )
        name = f"{job['metadata']['name']}-{fingerprint(job['metadata']['uid'], number)[:5]}"
        pod = pod_of(job, "Job", "batch/v1", name, labels)
        pod["metadata"]["annotations"] |= labels
        yield pod


def deployment_status(workload: Manifest, pods: Sequence[Manifest]) -> Manifest:
    """Return the status of a Deployment from the pods of its present ReplicaSet."""
    wanted, ready = workload["spec"].get("replicas", 1), sum(map(is_ready, pods))
    reason = "NewReplicaSetAvailable" if ready >= wanted else "ReplicaSetUpdated"
    availability = "MinimumReplicasAvailable" if ready >= wanted else "MinimumReplicasUnavailable"
    return {
        "observedGeneration": workload["metadata"].get("generation", 1),
        "replicas": len(pods),
        "updatedReplicas": len(pods),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "unavailableReplicas": max(0, wanted - ready),
        "conditions": [
            condition("Available", ready >= wanted, availability),
            condition("Progressing", True, reason),
        ],
    }


def stateful_status(workload: Manifest, pods: Sequence[Manifest]) -> Manifest:
    """Return the status of a StatefulSet."""
    stamp, ready = fingerprint(workload["spec"]["template"]), sum(map(is_ready, pods))
    return {
        "observedGeneration": workload["metadata"].get("generation", 1),
        "replicas": len(pods),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "currentReplicas": len(pods),
        "updatedReplicas": len(pods),
        "currentRevision": stamp,
        "updateRevision": stamp,
    }


def daemon_status(workload: Manifest, pods: Sequence[Manifest], wanted: int) -> Manifest:
    """Return the status of a DaemonSet."""
    ready = sum(map(is_ready, pods))
    return {
        "observedGeneration": workload["metadata"].get("generation", 1),
        "desiredNumberScheduled": wanted,
        "currentNumberScheduled": len(pods),
        "updatedNumberScheduled": len(pods),
        "numberReady": ready,
        "numberAvailable": ready,
        "numberUnavailable": max(0, wanted - ready),
        "numberMisscheduled": 0,
    }


def job_status(job: Manifest, pods: Sequence[Manifest]) -> Manifest:
    """Return the status of a Job; a finished one keeps its own."""
    old = job.get("status") or {}
    phases = [pod.get("status", {}).get("phase") for pod in pods]
    succeeded, failed = phases.count("Succeeded"), phases.count("Failed")
    status = {
        "startTime": old.get("startTime") or now_text(),
        "active": len(phases) - succeeded - failed,
        "ready": sum(map(is_ready, pods)),
        "succeeded": succeeded,
        "failed": failed,
    }
    if succeeded >= job["spec"].get("completions", 1):
        done = [condition("SuccessCriteriaMet", True), condition("Complete", True, "CompletionsReached")]
        return {**status, "completionTime": now_text(), "conditions": done}
    if failed > job["spec"].get("backoffLimit", 6) or (failed and failed == len(phases)):
        return {**status, "conditions": [condition("Failed", True, "BackoffLimitExceeded", "a pod failed")]}
    return status


def differs(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Say whether a status says anything new; times alone do not."""
    return any(_timeless(old.get(key)) != _timeless(value) for key, value in new.items())


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if not k.endswith("Time")}
    return [_timeless(item) for item in value] if isinstance(value, list) else value
