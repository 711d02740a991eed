"""Drives an API server with the Python client of PyPI, unchanged: typed, dynamic and watch. Ends with 0 if all holds.

KUBECONFIG names the server; the first argument a namespace to make and use.
"""

import json
import sys
import threading

from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.utils import create_from_dict

DEADLINE = 30


def check(holds, what):
    if not holds:
        raise AssertionError(what)


def refused(status, call, *arguments, **options):
    """What is said when a call fails as it must."""
    try:
        call(*arguments, **options)
    except ApiException as error:
        check(error.status == status, f"{error.status} instead of {status}: {error.body}")
        return json.loads(error.body)["message"]
    raise AssertionError(f"{call.__name__} succeeded, {status} was expected")


def typed(namespace):
    core, apps = client.CoreV1Api(), client.AppsV1Api()
    metadata = client.V1ObjectMeta(name="settings", labels={"part": "typed"})
    made = core.create_namespaced_config_map(namespace, client.V1ConfigMap(metadata=metadata, data={"a": "1"}))
    check(made.metadata.uid and made.metadata.resource_version, "a new object has a uid and a version")
    check(made.metadata.creation_timestamp.tzinfo is not None, "its time is one")
    said = refused(409, core.create_namespaced_config_map, namespace, client.V1ConfigMap(metadata=metadata))
    check(said == 'configmaps "settings" already exists', said)

    made.data["b"] = "2"
    changed = core.replace_namespaced_config_map("settings", namespace, made)
    check(changed.data == {"a": "1", "b": "2"}, changed.data)
    said = refused(409, core.replace_namespaced_config_map, "settings", namespace, made)
    check("the object has been modified" in said, said)
    patched = core.patch_namespaced_config_map("settings", namespace, {"data": {"a": None, "c": "3"}})
    check(patched.data == {"b": "2", "c": "3"}, patched.data)

    labels = {"app": "web"}
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels),
        spec=client.V1PodSpec(containers=[client.V1Container(name="web", image="web:1")]),
    )
    deployment = client.V1Deployment(
        metadata=client.V1ObjectMeta(name="web", labels=labels),
        spec=client.V1DeploymentSpec(
            replicas=3, selector=client.V1LabelSelector(match_labels=labels), template=template
        ),
    )
    made = apps.create_namespaced_deployment(namespace, deployment)
    check(made.spec.strategy.type == "RollingUpdate", "defaults are filled in")
    check(made.spec.template.spec.restart_policy == "Always", "in the template, too")
    scale = apps.read_namespaced_deployment_scale("web", namespace)
    check(scale.spec.replicas == 3 and scale.status.selector == "app=web", scale)
    apps.patch_namespaced_deployment_scale("web", namespace, {"spec": {"replicas": 5}})
    check(apps.read_namespaced_deployment("web", namespace).spec.replicas == 5, "scale changes the deployment")

    deployment.metadata.name = "bad"
    deployment.spec.template.spec.containers[0].name = ""
    said = refused(422, apps.create_namespaced_deployment, namespace, deployment)
    check("spec.template.spec.containers[0].name: Required value" in said, said)

    for number in range(5):
        name = client.V1ObjectMeta(generate_name="many-", labels={"part": "many", "odd": str(number % 2)})
        core.create_namespaced_config_map(namespace, client.V1ConfigMap(metadata=name))
    odd = core.list_namespaced_config_map(namespace, label_selector="part=many,odd=1")
    check(len(odd.items) == 2, f"{len(odd.items)} of two")
    one = core.list_namespaced_config_map(namespace, field_selector="metadata.name=settings")
    check([item.metadata.name for item in one.items] == ["settings"], one)
    seen, more = [], None
    while True:
        page = core.list_namespaced_config_map(namespace, label_selector="part=many", limit=2, _continue=more)
        seen += [item.metadata.name for item in page.items]
        more = page.metadata._continue
        if not more:
            break
    check(len(seen) == 5 and len(set(seen)) == 5, seen)
    core.delete_collection_namespaced_config_map(namespace, label_selector="part=many")
    left = core.list_namespaced_config_map(namespace, label_selector="part=many")
    check(not left.items, "a collection is deleted")
    refused(404, core.read_namespaced_config_map, "none", namespace)


def dynamically(namespace):
    dynamic_client = dynamic.DynamicClient(client.ApiClient())
    maps = dynamic_client.resources.get(api_version="v1", kind="ConfigMap")
    deployments = dynamic_client.resources.get(api_version="apps/v1", kind="Deployment")
    check(deployments.namespaced and deployments.name == "deployments", deployments)
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": "1"}}
    applied = maps.server_side_apply(body, namespace=namespace, field_manager="one")
    check(applied.data.a == "1", applied)
    body["data"] = {"a": "2"}
    try:
        maps.server_side_apply(body, namespace=namespace, field_manager="two")
        raise AssertionError("another's field was taken without force")
    except dynamic.exceptions.ConflictError as error:
        said = json.loads(error.body)["message"]
        check('conflict with "one"' in said, said)
    forced = maps.server_side_apply(body, namespace=namespace, field_manager="two", force_conflicts=True)
    check(forced.data.a == "2", forced)
    patched = maps.patch(
        body=[{"op": "add", "path": "/data/b", "value": "3"}],
        name="applied",
        namespace=namespace,
        content_type="application/json-patch+json",
    )
    check(patched.data.to_dict() == {"a": "2", "b": "3"}, patched)
    maps.delete(name="applied", namespace=namespace)
    check(all(item.metadata.name != "applied" for item in maps.get(namespace=namespace).items), "it is gone")
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "made", "namespace": namespace},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    }
    made = create_from_dict(client.ApiClient(), service)[0]
    check(made.spec.cluster_ip and made.spec.ports[0].target_port == 80, made.spec)


def watching(namespace):
    core = client.CoreV1Api()
    start = core.list_namespaced_config_map(namespace).metadata.resource_version

    def change():
        metadata = client.V1ObjectMeta(name="watched")
        core.create_namespaced_config_map(namespace, client.V1ConfigMap(metadata=metadata, data={"n": "1"}))
        core.patch_namespaced_config_map("watched", namespace, {"data": {"n": "2"}})
        core.delete_namespaced_config_map("watched", namespace)

    changes = threading.Thread(target=change)
    changes.start()
    seen = []
    stream = watch.Watch()
    options = {"resource_version": start, "field_selector": "metadata.name=watched", "timeout_seconds": DEADLINE}
    for event in stream.stream(core.list_namespaced_config_map, namespace, **options):
        seen.append((event["type"], event["object"].data.get("n")))
        if event["type"] == "DELETED":
            stream.stop()
    changes.join()
    check(seen == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")], seen)


def main():
    namespace = sys.argv[1]
    config.load_kube_config()
    client.CoreV1Api().create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=namespace)))
    check(client.VersionApi().get_code().major == "1", "the version is told")
    typed(namespace)
    dynamically(namespace)
    watching(namespace)
    client.CoreV1Api().delete_namespace(namespace)


main()
