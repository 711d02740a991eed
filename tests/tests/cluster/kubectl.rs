//! The real `kubectl`, as a new user tries it.

use anyhow::ensure;
use bosun_testkit::{PATIENCE, Server, eventually};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split_whitespace()
}

#[tokio::test]
async fn an_object_is_created_shown_changed_and_deleted() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let said = server.kubectl(words("create configmap a --from-literal=x=y")).await?;
    ensure!(said == "configmap/a created\n", "{said}");
    let table = server.kubectl(words("get configmap a")).await?;
    let mut lines = table.lines();
    ensure!(lines.next() == Some("NAME   DATA   AGE"), "{table}");
    ensure!(
        lines.next().is_some_and(|line| line.starts_with("a      1      ")),
        "{table}"
    );
    let object: Value = serde_json::from_str(&server.kubectl(words("get configmap a -o json")).await?)?;
    ensure!(
        object["data"]["x"] == "y" && object["metadata"]["uid"].is_string(),
        "{object}"
    );
    server.kubectl(words("label configmap a team=blue")).await?;
    server.kubectl(words("annotate configmap a note=z")).await?;
    server
        .kubectl([
            "patch",
            "configmap",
            "a",
            "--type=merge",
            "-p",
            r#"{"data":{"x":"z","w":"v"}}"#,
        ])
        .await?;
    server
        .kubectl([
            "patch",
            "configmap",
            "a",
            "--type=json",
            "-p",
            r#"[{"op":"remove","path":"/data/w"}]"#,
        ])
        .await?;
    let object: Value = serde_json::from_str(&server.kubectl(words("get configmap -l team=blue -o json")).await?)?;
    let found = &object["items"][0];
    ensure!(found["data"] == serde_json::json!({"x": "z"}), "{found}");
    ensure!(found["metadata"]["annotations"]["note"] == "z", "{found}");
    let said = server.kubectl(words("delete configmap a")).await?;
    ensure!(said.starts_with("configmap \"a\" deleted"), "{said}");
    let gone = server.try_kubectl(words("get configmap a")).await?;
    let error = String::from_utf8_lossy(&gone.stderr).into_owned();
    ensure!(
        error == "Error from server (NotFound): configmaps \"a\" not found\n",
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn a_file_is_applied_by_the_client_and_by_the_server() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let manifest =
        |value: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  x: {value}\n");
    let file = server.file("a.yaml", &manifest("one"))?;
    let file = file.to_string_lossy().into_owned();
    for (flags, said) in [
        ("apply -f", "created"),
        ("apply -f", "unchanged"),
        ("apply --server-side --force-conflicts -f", "serverside-applied"),
    ] {
        let output = server.kubectl(words(flags).chain([&*file])).await?;
        ensure!(output.trim() == format!("configmap/a {said}"), "{flags}: {output}");
    }
    let same = server.try_kubectl(["diff", "-f", &*file]).await?;
    ensure!(
        same.status.code() == Some(0),
        "{}",
        String::from_utf8_lossy(&same.stdout)
    );
    server.file("a.yaml", &manifest("two"))?;
    let other = server.try_kubectl(["diff", "-f", &*file]).await?;
    ensure!(
        other.status.code() == Some(1),
        "{}",
        String::from_utf8_lossy(&other.stderr)
    );
    server.file(
        "a.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndatum: {}\n",
    )?;
    let strict = server.try_kubectl(["apply", "--validate=strict", "-f", &*file]).await?;
    let error = String::from_utf8_lossy(&strict.stderr).into_owned();
    ensure!(
        !strict.status.success() && error.contains("unknown field \"datum\""),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn what_is_watched_is_seen_as_it_changes() -> anyhow::Result<()> {
    let server = Server::start().await?;
    server.kubectl(words("create configmap a --from-literal=x=y")).await?;
    let mut command = server.kubectl_command()?;
    command
        .args(["get", "configmap", "-w", "-o", "name"])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true);
    let mut watching = command.spawn()?;
    let output = watching.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(output).lines();
    let mut next = async || {
        tokio::time::timeout(PATIENCE, lines.next_line())
            .await?
            .map_err(anyhow::Error::from)
    };
    ensure!(next().await?.as_deref() == Some("configmap/a"));
    server.kubectl(words("create configmap b --from-literal=x=y")).await?;
    ensure!(next().await?.as_deref() == Some("configmap/b"));
    watching.kill().await?;
    Ok(())
}

#[tokio::test]
async fn the_server_tells_what_it_serves_and_who_asks() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let resources = server.kubectl(words("api-resources --verbs=list -o name")).await?;
    for name in ["pods", "deployments.apps", "leases.coordination.k8s.io"] {
        ensure!(resources.lines().any(|line| line == name), "{resources}");
    }
    let versions = server.kubectl(words("api-versions")).await?;
    ensure!(versions.lines().any(|line| line == "apps/v1"), "{versions}");
    let version = server.kubectl(words("version")).await?;
    ensure!(version.contains("Server Version: v1.36."), "{version}");
    let explained = server.kubectl(words("explain deployment.spec.replicas")).await?;
    ensure!(explained.contains("FIELD: replicas <integer>"), "{explained}");
    let who = server.kubectl(words("auth whoami")).await?;
    ensure!(who.contains("kubernetes-admin"), "{who}");
    let may = server.kubectl(words("auth can-i create pods")).await?;
    ensure!(may == "yes\n", "{may}");
    let may = server.try_kubectl(words("auth can-i create pods --as=nobody")).await?;
    ensure!(String::from_utf8_lossy(&may.stdout) == "no\n");
    Ok(())
}

#[tokio::test]
async fn what_a_user_tries_on_the_first_day_works() -> anyhow::Result<()> {
    let server = Server::start().await?;
    for (command, said) in [
        ("create namespace shop", "namespace/shop created"),
        ("create serviceaccount default", "serviceaccount/default created"),
        ("run web --image=nginx", "pod/web created"),
        (
            "create deployment d --image=nginx --replicas=2",
            "deployment.apps/d created",
        ),
        ("scale deployment d --replicas=5", "deployment.apps/d scaled"),
        ("get deployment d -o jsonpath={.spec.replicas}", "5"),
        (
            "set image deployment/d nginx=nginx:2",
            "deployment.apps/d image updated",
        ),
        ("expose deployment d --port=80", "service/d exposed"),
        ("create secret generic s --from-literal=a=b", "secret/s created"),
        ("create job j --image=busybox", "job.batch/j created"),
        (
            "create role r --verb=get --resource=pods",
            "role.rbac.authorization.k8s.io/r created",
        ),
        (
            "create rolebinding b --role=r --user=jane",
            "rolebinding.rbac.authorization.k8s.io/b created",
        ),
        ("auth can-i get pods --as=jane", "yes"),
        (
            "create ingress i --rule=a/b=c:80",
            "ingress.networking.k8s.io/i created",
        ),
        (
            "create pdb p --selector=a=b --min-available=1",
            "poddisruptionbudget.policy/p created",
        ),
        (
            "create priorityclass pc --value=5",
            "priorityclass.scheduling.k8s.io/pc created",
        ),
        ("create token default", "ey"),
        (
            "get pod web -o wide",
            "NAME   READY   STATUS    RESTARTS   AGE   IP       NODE     NOMINATED NODE   READINESS GATES",
        ),
        ("describe deployment d", "Name:                   d"),
        ("delete pod web --grace-period=0 --force", "pod \"web\" force deleted"),
        ("delete service d", "service \"d\" deleted"),
        ("cluster-info", "Kubernetes control plane"),
    ] {
        let output = if command.starts_with("auth can-i") {
            // A binding counts a moment after it is made.
            eventually(PATIENCE, command, async || server.kubectl(words(command)).await).await
        } else {
            server.kubectl(words(command)).await?
        };
        ensure!(plain(&output).starts_with(said), "kubectl {command}: {output}");
    }
    Ok(())
}

/// Without colours.
fn plain(text: &str) -> String {
    let parts = text.split('\u{1b}').enumerate();
    let shown = parts.map(|(at, part)| {
        if at == 0 {
            part
        } else {
            part.split_once('m').map_or("", |(_, text)| text)
        }
    });
    shown.collect()
}
