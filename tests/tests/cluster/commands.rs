//! Every command of `kubectl` that changes or shows objects, and what it says then.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use bosun_testkit::{PATIENCE, Server, eventually};
use serde_json::{Value, json};

/// Runs commands one after another; each must succeed and say what is beside it. A word in single quotes may have blanks.
async fn says(server: &Server, commands: &[(&str, &str)]) -> anyhow::Result<()> {
    for (command, expected) in commands {
        let said = server
            .kubectl(split(command))
            .await
            .with_context(|| format!("kubectl {command}"))?;
        ensure!(
            said.contains(expected),
            "kubectl {command}: {said:?} instead of {expected:?}"
        );
    }
    Ok(())
}

fn split(command: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for (number, part) in command.split('\'').enumerate() {
        if number % 2 == 1 {
            words.push(part);
        } else {
            words.extend(part.split_whitespace());
        }
    }
    words
}

async fn get(server: &Server, what: &str) -> anyhow::Result<Value> {
    let text = server.kubectl(split(&format!("get {what} -o json"))).await?;
    Ok(serde_json::from_str(&text)?)
}

/// A server on which pods can be made: their account is there, as a controller would have made it.
async fn server() -> anyhow::Result<Server> {
    let server = Server::start().await?;
    says(
        &server,
        &[("create serviceaccount default", "serviceaccount/default created")],
    )
    .await?;
    Ok(server)
}

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: 'web:1', ports: [{containerPort: 80}]}
      - {name: side, image: 'side:1'}
";

#[tokio::test]
async fn every_generator_makes_its_object() -> anyhow::Result<()> {
    let server = server().await?;
    let file = server.file("x.txt", "text")?;
    let from_file = format!("create configmap files --from-file={}", file.display());
    says(
        &server,
        &[
            ("create namespace team", "namespace/team created"),
            ("create configmap literal --from-literal=a=b", "configmap/literal created"),
            (&from_file, "configmap/files created"),
            ("create secret generic plain --from-literal=a=b", "secret/plain created"),
            (
                "create secret docker-registry pull --docker-server=r.example.com --docker-username=u --docker-password=p",
                "secret/pull created",
            ),
            ("create serviceaccount robot", "serviceaccount/robot created"),
            ("create deployment web --image=web:1 --replicas=2 --port=80", "deployment.apps/web created"),
            ("create job once --image=job:1", "job.batch/once created"),
            ("create cronjob often --image=job:1 '--schedule=*/5 * * * *'", "cronjob.batch/often created"),
            ("create job now --from=cronjob/often", "job.batch/now created"),
            ("create service clusterip inner --tcp=80:8080", "service/inner created"),
            ("create service nodeport outer --tcp=80:8080", "service/outer created"),
            ("create service externalname away --external-name=example.com", "service/away created"),
            ("create service loadbalancer balanced --tcp=80", "service/balanced created"),
            ("create ingress entry --rule=example.com/x=inner:80", "ingress.networking.k8s.io/entry created"),
            ("create role reader --verb=get,list --resource=pods", "role.rbac.authorization.k8s.io/reader created"),
            ("create rolebinding reads --role=reader --user=ann", "rolebinding.rbac.authorization.k8s.io/reads created"),
            (
                "create clusterrole watcher --verb=watch --resource=pods",
                "clusterrole.rbac.authorization.k8s.io/watcher created",
            ),
            (
                "create clusterrolebinding watches --clusterrole=watcher --group=team",
                "clusterrolebinding.rbac.authorization.k8s.io/watches created",
            ),
            ("create quota limited --hard=pods=10,services=20", "resourcequota/limited created"),
            (
                "create poddisruptionbudget calm --selector=app=web --min-available=1",
                "poddisruptionbudget.policy/calm created",
            ),
            (
                "create priorityclass urgent --value=1000 --description=first",
                "priorityclass.scheduling.k8s.io/urgent created",
            ),
            ("run one --image=web:1", "pod/one created"),
            ("expose deployment web --port=80 --name=exposed", "service/exposed exposed"),
            ("autoscale deployment web --min=1 --max=3 --cpu-percent=80", "horizontalpodautoscaler.autoscaling/web autoscaled"),
        ],
    )
    .await?;
    ensure!(get(&server, "configmap files").await?["data"] == json!({ "x.txt": "text" }));
    let service = get(&server, "service outer").await?;
    let port = service["spec"]["ports"][0]["nodePort"].as_i64().unwrap_or_default();
    ensure!((30000..32768).contains(&port), "{service}");
    ensure!(get(&server, "service away").await?["spec"].get("clusterIP").is_none());
    Ok(())
}

#[tokio::test]
async fn objects_are_shown_in_every_form() -> anyhow::Result<()> {
    let server = server().await?;
    let file = server.file("web.yaml", DEPLOYMENT)?;
    says(
        &server,
        &[(&format!("apply -f {}", file.display()), "deployment.apps/web created")],
    )
    .await?;
    says(
        &server,
        &[
            ("get deployment", "NAME   READY   UP-TO-DATE   AVAILABLE   AGE"),
            ("get deployment -o wide", "CONTAINERS   IMAGES         SELECTOR"),
            ("get deployment web -o name", "deployment.apps/web"),
            ("get deployment web -o yaml", "progressDeadlineSeconds: 600"),
            ("get deployment web -o json", "\"progressDeadlineSeconds\": 600"),
            ("get deployment web -o jsonpath={.spec.replicas}", "2"),
            (
                "get deployment -o custom-columns=N:.metadata.name,R:.spec.replicas",
                "web   2",
            ),
            ("get deployment web '-o=go-template={{.metadata.name}}'", "web"),
            ("get deployment --show-labels", "app=web"),
            ("get deployment -L app", "APP"),
            ("get deployments -A", "NAMESPACE   NAME"),
            (
                "get deployment web --show-managed-fields -o yaml",
                "fieldsType: FieldsV1",
            ),
            ("get all", "deployment.apps/web"),
            (
                "get --raw /apis/apps/v1/namespaces/default/deployments/web",
                "\"kind\":\"Deployment\"",
            ),
            ("describe deployment web", "StrategyType:           RollingUpdate"),
            ("describe namespace default", "Status:       Active"),
            ("describe service kubernetes", "Endpoints:"),
            ("explain deployment.spec --recursive", "progressDeadlineSeconds"),
            ("explain pod.spec.containers.image", "FIELD: image <string>"),
            ("cluster-info", "Kubernetes control plane"),
            ("get componentstatuses", ""),
            ("auth can-i --list", "Resources"),
        ],
    )
    .await
}

#[tokio::test]
async fn an_object_is_changed_by_each_command_that_changes() -> anyhow::Result<()> {
    let server = server().await?;
    let file = server.file("web.yaml", DEPLOYMENT)?;
    let path = file.display();
    says(
        &server,
        &[
            (&format!("create -f {path}"), "deployment.apps/web created"),
            ("scale deployment web --replicas=4", "deployment.apps/web scaled"),
            ("set image deployment/web web=web:2", "deployment.apps/web image updated"),
            ("set env deployment/web A=b", "deployment.apps/web env updated"),
            ("set resources deployment web -c=web --limits=cpu=200m,memory=64Mi", "resource requirements updated"),
            ("set serviceaccount deployment web default", "serviceaccount updated"),
            ("label deployment web tier=front", "deployment.apps/web labeled"),
            ("label deployment web tier=back --overwrite", "deployment.apps/web labeled"),
            ("label deployment web tier-", "deployment.apps/web unlabeled"),
            ("annotate deployment web note=x", "deployment.apps/web annotated"),
            (
                r#"patch deployment web --type=strategic -p '{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"side:2"}]}}}}'"#,
                "deployment.apps/web patched",
            ),
            (r#"patch deployment web --type=merge -p '{"spec":{"paused":true}}'"#, "deployment.apps/web patched"),
            (
                r#"patch deployment web --type=json -p '[{"op":"replace","path":"/spec/paused","value":false}]'"#,
                "deployment.apps/web patched",
            ),
            ("rollout pause deployment web", "deployment.apps/web paused"),
            ("rollout resume deployment web", "deployment.apps/web resumed"),
            ("rollout restart deployment web", "deployment.apps/web restarted"),
        ],
    )
    .await?;
    let web = get(&server, "deployment web").await?;
    let containers = &web["spec"]["template"]["spec"]["containers"];
    ensure!(web["spec"]["replicas"] == 4, "{web}");
    ensure!(
        containers[0]["image"] == "web:2" && containers[1]["image"] == "side:2",
        "{containers}"
    );
    ensure!(containers[0]["env"][0]["name"] == "A", "{containers}");
    ensure!(
        containers[0]["resources"]["limits"] == json!({ "cpu": "200m", "memory": "64Mi" }),
        "{containers}"
    );

    // An editor that changes one thing.
    let editor = server.file("editor.sh", "#!/bin/sh\nsed -i 's/replicas: 4/replicas: 3/' \"$1\"\n")?;
    std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755))?;
    let mut edit = server.kubectl_command()?;
    let output = edit
        .args(["edit", "deployment", "web"])
        .env("EDITOR", &editor)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        said.contains("deployment.apps/web edited"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(get(&server, "deployment web").await?["spec"]["replicas"] == 3);

    let changed = DEPLOYMENT.replace("replicas: 2", "replicas: 1");
    let file = server.file("web.yaml", &changed)?;
    says(
        &server,
        &[
            (
                &format!("replace -f {}", file.display()),
                "deployment.apps/web replaced",
            ),
            (
                &format!("replace --force -f {}", file.display()),
                "deployment.apps/web replaced",
            ),
        ],
    )
    .await?;
    ensure!(get(&server, "deployment web").await?["spec"]["replicas"] == 1);
    Ok(())
}

#[tokio::test]
async fn apply_prunes_what_is_no_longer_in_the_files() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let map =
        |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{set: x}}}}\n---\n");
    let file = server.file("set.yaml", &[map("a"), map("b")].concat())?;
    let apply = format!("apply --prune -l set=x -f {}", file.display());
    says(&server, &[(&apply, "configmap/b created")]).await?;
    server.file("set.yaml", &map("a"))?;
    says(&server, &[(&apply, "configmap/b pruned")]).await?;
    ensure!(server.kubectl(split("get configmap -l set=x -o name")).await? == "configmap/a\n");

    server.file("set.yaml", &[map("a"), map("c")].concat())?;
    let apply = format!("apply --server-side --force-conflicts -f {}", file.display());
    says(&server, &[(&apply, "configmap/c serverside-applied")]).await?;
    Ok(())
}

#[tokio::test]
async fn two_appliers_conflict_and_one_may_force() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let map = |value: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata: {{x: '{value}'}}\n");
    let file = server.file("a.yaml", &map("1"))?;
    let apply = |manager: &str, more: &str| {
        format!(
            "apply --server-side --field-manager={manager} {more} -f {}",
            file.display()
        )
    };
    says(&server, &[(&apply("one", ""), "configmap/a serverside-applied")]).await?;
    server.file("a.yaml", &map("2"))?;
    let refused = server.try_kubectl(split(&apply("two", ""))).await?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        said.contains("Apply failed with 1 conflict: conflict with \"one\": .data.x"),
        "{said}"
    );
    says(
        &server,
        &[(&apply("two", "--force-conflicts"), "configmap/a serverside-applied")],
    )
    .await?;
    ensure!(get(&server, "configmap a").await?["data"]["x"] == "2");
    Ok(())
}

#[tokio::test]
async fn what_is_deleted_goes_as_the_cascade_says() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let make = async |name: &str| {
        server
            .kubectl(["create", "deployment", name, "--image=web:1"])
            .await
            .map(drop)
    };
    for name in ["background", "orphan", "foreground"] {
        make(name).await?;
    }
    says(
        &server,
        &[("delete deployment background --cascade=background", "deleted")],
    )
    .await?;
    for cascade in ["orphan", "foreground"] {
        server
            .kubectl([
                "delete",
                "deployment",
                cascade,
                &format!("--cascade={cascade}"),
                "--wait=false",
            ])
            .await?;
        let object = get(&server, &format!("deployment {cascade}")).await?;
        let expected = if cascade == "orphan" {
            "orphan"
        } else {
            "foregroundDeletion"
        };
        ensure!(object["metadata"]["finalizers"] == json!([expected]), "{object}");
        ensure!(object["metadata"]["deletionTimestamp"].is_string(), "{object}");
    }
    make("many-1").await?;
    make("many-2").await?;
    says(
        &server,
        &[
            ("label deployment many-1 many-2 set=x", "labeled"),
            ("delete deployment -l set=x", "\"many-2\" deleted"),
            ("delete deployment none --ignore-not-found", ""),
        ],
    )
    .await?;
    let gone = server.try_kubectl(split("delete deployment none")).await?;
    let said = String::from_utf8_lossy(&gone.stderr).into_owned();
    ensure!(said.contains("deployments.apps \"none\" not found"), "{said}");
    Ok(())
}

#[tokio::test]
async fn waiting_ends_when_the_object_is_as_wanted() -> anyhow::Result<()> {
    let server = server().await?;
    says(&server, &[("run a --image=web:1", "pod/a created")]).await?;
    let mut wait = server.kubectl_command()?;
    let wait = wait
        .args(["wait", "--for=condition=Ready", "pod/a", "--timeout=30s"])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let ready = r#"{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}"#;
    server
        .kubectl(["patch", "pod", "a", "--subresource=status", "--type=merge", "-p", ready])
        .await?;
    let output = wait.wait_with_output().await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(said == "pod/a condition met\n", "{said}");
    says(
        &server,
        &[
            (
                "wait --for=jsonpath={.status.phase}=Running pod/a --timeout=30s",
                "condition met",
            ),
            ("get pod a", "Running"),
            ("delete pod a --now", "deleted"),
            ("wait --for=delete pod/a --timeout=30s", ""),
        ],
    )
    .await
}

#[tokio::test]
async fn a_signed_request_and_a_token_let_their_holders_in() -> anyhow::Result<()> {
    let server = server().await?;
    let token = server.kubectl(split("create token default --duration=1h")).await?;
    let kubeconfig = server.file("kubeconfig-of-holder", &std::fs::read_to_string(server.kubeconfig())?)?;
    let credentials = format!("--token={}", token.trim());
    let mut said = String::new();
    for command in [
        &["config", "set-credentials", "holder", &credentials][..],
        &["config", "set-context", "--current", "--user=holder"],
        &["auth", "whoami", "-o", "json"],
    ] {
        let mut kubectl = server.kubectl_command()?;
        let output = kubectl.args(command).env("KUBECONFIG", &kubeconfig).output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        said = String::from_utf8_lossy(&output.stdout).into_owned();
    }
    ensure!(said.contains("system:serviceaccount:default:default"), "{said}");

    let request = request("ann")?;
    let file = server.file(
        "csr.json",
        &json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": { "name": "ann" },
            "spec": {
                "request": BASE64_STANDARD.encode(request), "signerName": "kubernetes.io/kube-apiserver-client",
                "usages": ["client auth"],
            },
        })
        .to_string(),
    )?;
    let apply = format!("apply -f {}", file.display());
    says(
        &server,
        &[
            (&apply, "created"),
            ("get csr ann", "Pending"),
            ("certificate approve ann", "approved"),
            ("get csr ann", "Approved"),
        ],
    )
    .await
}

/// A signing request for a user, made by `openssl`.
fn request(name: &str) -> anyhow::Result<Vec<u8>> {
    let dir = tempfile::tempdir()?;
    let key = dir.path().join("key");
    #[allow(clippy::disallowed_methods, reason = "a user's own tool")]
    let output = std::process::Command::new("openssl")
        .args([
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
        ])
        .arg(format!("/CN={name}"))
        .arg("-keyout")
        .arg(&key)
        .output()
        .context("openssl is needed: apt-get install openssl")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

#[tokio::test]
async fn a_namespace_that_goes_takes_nothing_new() -> anyhow::Result<()> {
    let server = Server::start().await?;
    says(
        &server,
        &[
            ("create namespace team", "created"),
            ("delete namespace team --wait=false", "deleted"),
            ("get namespace team", "Terminating"),
        ],
    )
    .await?;
    let refused = server.try_kubectl(split("create configmap a -n team")).await?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(said.contains("because it is being terminated"), "{said}");
    let absent = server.try_kubectl(split("create configmap a -n none")).await?;
    let said = String::from_utf8_lossy(&absent.stderr).into_owned();
    ensure!(said.contains("namespaces \"none\" not found"), "{said}");
    // What a controller says once it is empty.
    let finalize = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "team" }, "spec": {} });
    let file = server.file("finalize.json", &finalize.to_string())?;
    server
        .kubectl([
            "replace",
            "--raw",
            "/api/v1/namespaces/team/finalize",
            "-f",
            &file.to_string_lossy(),
        ])
        .await?;
    eventually(PATIENCE, "it is gone", async || {
        let output = server.try_kubectl(split("get namespace team")).await?;
        ensure!(!output.status.success(), "not yet");
        Ok(())
    })
    .await;
    Ok(())
}
