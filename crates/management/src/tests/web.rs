//! The pages: all files are there, safe headers are on all of them, and nothing else comes without a login.

use super::{Reply, Server};
use crate::web::FILES;
use axum::body::Body;
use axum::http::Request;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("web")
}

/// Paths of all files below a folder.
fn files_in(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_in(&path, found);
        } else {
            found.insert(path);
        }
    }
}

async fn ask(server: &Server, method: &str, path: &str, known: Option<&str>) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(tag) = known {
        request = request.header("If-None-Match", tag);
    }
    server.answer(request, Body::empty()).await
}

fn header<'a>(reply: &'a Reply, name: &str) -> &'a str {
    reply
        .headers
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

#[test]
fn every_file_is_in_the_program() {
    let mut there = BTreeSet::new();
    files_in(&folder(), &mut there);
    let served: BTreeSet<PathBuf> = FILES.iter().map(|(path, _)| folder().join(path)).collect();
    assert_eq!(there, served);
    // What is sent is what lies there.
    for (path, content) in FILES {
        assert_eq!(
            std::fs::read(folder().join(path)).unwrap(),
            *content,
            "{path}"
        );
    }
}

#[test]
fn every_module_that_is_imported_exists() {
    let served: BTreeSet<PathBuf> = FILES.iter().map(|(path, _)| PathBuf::from(path)).collect();
    let mut imports = 0;
    for (path, content) in FILES.iter().filter(|(path, _)| path.ends_with(".js")) {
        let text = std::str::from_utf8(content).unwrap();
        let imports_of = text.split("from \"").skip(1);
        for named in imports_of.filter_map(|rest| rest.split('"').next()) {
            assert!(named.starts_with('.'), "{path} imports {named}");
            let mut target = Path::new(path).parent().unwrap().to_path_buf();
            for part in named.split('/') {
                match part {
                    "." => {}
                    ".." => assert!(target.pop(), "{path}: {named}"),
                    name => target.push(name),
                }
            }
            assert!(served.contains(&target), "{path} imports {named}");
            imports += 1;
        }
    }
    assert!(imports > 50, "{imports}");
}

/// Nothing of another place is loaded, and no text becomes markup.
#[test]
fn files_stay_among_themselves() {
    for (path, content) in FILES {
        let text = std::str::from_utf8(content).unwrap();
        for part in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "https://",
            " style=",
            "onclick=\"",
        ] {
            assert!(!text.contains(part), "{path} holds {part}");
        }
        // The name of SVG is no address that anybody asks.
        let addresses = text.replace("http://www.w3.org/2000/svg", "");
        assert!(!addresses.contains("http://"), "{path}");
    }
}

#[tokio::test]
async fn every_file_is_served_with_its_type_and_safe() {
    let server = Server::new();
    let mut tags = BTreeSet::new();
    for (path, content) in FILES {
        let reply = ask(&server, "GET", &format!("/web/{path}"), None).await;
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(reply.text.as_bytes(), *content, "{path}");
        let kind = match path.rsplit('.').next().unwrap() {
            "html" => "text/html; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            other => panic!("{other}"),
        };
        assert_eq!(header(&reply, "content-type"), kind, "{path}");
        assert_eq!(header(&reply, "x-content-type-options"), "nosniff");
        assert_eq!(header(&reply, "referrer-policy"), "no-referrer");
        assert_eq!(header(&reply, "cache-control"), "no-cache");
        let policy = header(&reply, "content-security-policy");
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        tags.insert(header(&reply, "etag").to_owned());
    }
    assert_eq!(tags.len(), FILES.len());
}

#[tokio::test]
async fn a_copy_that_is_current_is_not_sent_again() {
    let server = Server::new();
    let reply = ask(&server, "GET", "/", None).await;
    let tag = header(&reply, "etag").to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    for (known, expected) in [
        (tag.clone(), 304),
        (format!("W/{tag}"), 304),
        (format!("\"other\", {tag}"), 304),
        ("*".to_owned(), 304),
        ("\"other\"".to_owned(), 200),
    ] {
        let reply = ask(&server, "GET", "/", Some(&known)).await;
        assert_eq!(reply.status.as_u16(), expected, "{known}");
        assert_eq!(reply.text.is_empty(), expected == 304, "{known}");
        assert_eq!(header(&reply, "etag"), tag);
        assert!(reply.headers.contains_key("content-security-policy"));
    }
}

#[tokio::test]
async fn heads_redirects_and_what_is_not_there() {
    let server = Server::new();
    for (method, path, expected) in [
        ("HEAD", "/", 200),
        ("HEAD", "/web/main.js", 200),
        ("GET", "/index.html", 307),
        ("GET", "/mgmt", 307),
        ("GET", "/mgmt/", 307),
        ("GET", "/web", 404),
        ("GET", "/web/", 404),
        ("GET", "/web/none.js", 404),
        ("GET", "/web/../Cargo.toml", 404),
        ("GET", "/web/%2e%2e/Cargo.toml", 404),
        ("GET", "/web/pages%2Flogin.js", 200),
        ("GET", "/none", 404),
        ("GET", "/main.js", 404),
        ("POST", "/", 405),
        ("POST", "/web/main.js", 405),
    ] {
        let reply = ask(&server, method, path, None).await;
        assert_eq!(reply.status.as_u16(), expected, "{method} {path}");
        match expected {
            307 => assert_eq!(header(&reply, "location"), "/"),
            404 => assert_eq!(reply.body["error"], "Object Not Found"),
            _ => {}
        }
        if method == "HEAD" {
            assert!(reply.text.is_empty());
            assert_ne!(header(&reply, "content-length"), "0");
            assert!(reply.headers.contains_key("etag"));
        }
    }
}

#[tokio::test]
async fn a_stranger_sees_pages_and_no_data() {
    let server = Server::new();
    assert_eq!(ask(&server, "GET", "/", None).await.status, 200);
    for path in [
        "/api/overview",
        "/api/whoami",
        "/api/queues",
        "/api/cluster/status",
    ] {
        let reply = ask(&server, "GET", path, None).await;
        assert_eq!(reply.status, 401, "{path}");
    }
}

#[tokio::test]
async fn pages_come_before_the_node_has_started() {
    let server = Server::closed();
    assert_eq!(ask(&server, "GET", "/", None).await.status, 200);
    assert_eq!(ask(&server, "GET", "/web/main.js", None).await.status, 200);
    let reply = server
        .send("guest:guest", "GET", "/api/whoami", Value::Null)
        .await;
    assert_eq!(reply.status, 503);
    assert!(
        reply.body["reason"].as_str().unwrap().contains("not ready"),
        "{}",
        reply.text
    );
}

#[tokio::test]
async fn a_port_without_the_api_has_no_pages() {
    let server = Server::new();
    let reply = crate::router(server.app, false);
    let bare = Server {
        fake: server.fake,
        app: Server::closed().app,
        router: reply,
    };
    assert_eq!(ask(&bare, "GET", "/", None).await.status, 404);
}
