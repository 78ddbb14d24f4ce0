//! What a table of a `hosts.toml` says about its host.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use stowage_registry::{PlainHttp, RegistryError};
use stowage_testkit::Registry as Server;
use stowage_testkit::registry::{Identity, RegistryBuilder};
use stowage_testkit::{Fault, Target};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{Scene, digest_of};
use crate::stage::{NAME, ada, failure, shows_authorization};

async fn secure(builder: RegistryBuilder) -> Scene {
    Scene::with(Server::builder(), vec![builder.tls()], |_| {}).await
}

#[tokio::test]
async fn an_authority_of_a_mirror_is_trusted_for_that_mirror() {
    let scene = secure(Server::builder().redirect_blobs(None, None)).await;
    let file = scene.write(&scene.table(0, "ca = \"mirror.crt\""));
    let authority = file.with_file_name("mirror.crt");
    std::fs::write(&authority, scene.mirrors[0].ca_pem().unwrap()).unwrap();
    // Its storage has another port, which nobody wrote: the blob comes from the registry, the rest from the mirror.
    scene.read_all(&scene.repository(None)).await.unwrap();
    assert_eq!(Scene::delivered(&scene.mirrors[0]), 1);

    let plain = secure(Server::builder()).await;
    let several = format!("ca = [{:?}, {:?}]", authority, plain.directory.path().join("own.crt"));
    std::fs::write(plain.directory.path().join("own.crt"), plain.mirrors[0].ca_pem().unwrap()).unwrap();
    plain.write(&plain.table(0, &several));
    plain.read_all(&plain.repository(None)).await.unwrap();
    assert_eq!(Scene::delivered(&plain.mirrors[0]), 3);
}

#[tokio::test]
async fn a_mirror_of_an_unknown_authority_is_not_asked_unless_the_file_says_so() {
    let scene = secure(Server::builder()).await;
    scene.write(&scene.table(0, ""));
    scene.read_all(&scene.repository(None)).await.unwrap();
    assert_eq!(Scene::asked(&scene.mirrors[0]), 0);

    let scene = secure(Server::builder()).await;
    scene.write(&scene.table(0, "skip_verify = true"));
    scene.read_all(&scene.repository(None)).await.unwrap();
    assert_eq!(Scene::delivered(&scene.mirrors[0]), 3);
}

/// A mirror that lets in whoever has a certificate by `authority`, and then has nothing for them. Counts who came in.
async fn exclusive(identity: &Identity, authority: &rcgen::Certificate) -> (SocketAddr, Arc<AtomicUsize>) {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let guests = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let chain = CertificateDer::from_pem_slice(identity.cert_pem.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(guests.build().unwrap())
        .with_single_cert(vec![chain], key)
        .unwrap();
    let (listener, came_in) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), Arc::new(AtomicUsize::new(0)));
    let (address, count) = (listener.local_addr().unwrap(), Arc::clone(&came_in));
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(socket).await else { continue };
            let mut request = [0; 4096];
            if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                count.fetch_add(1, Ordering::SeqCst);
                let nothing = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                let _ = stream.write_all(nothing).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    (address, came_in)
}

#[tokio::test]
async fn a_client_certificate_is_shown_in_all_its_forms() {
    let key = rcgen::KeyPair::generate().unwrap();
    let guest = rcgen::CertificateParams::new(vec!["guest".to_owned()]).unwrap().self_signed(&key).unwrap();
    let identity = Identity::generate(&[]).unwrap();
    let (mirror, came_in) = exclusive(&identity, &guest).await;
    let scene = Scene::with(Server::builder(), vec![], |options| options.mirrors.rest = Duration::ZERO).await;
    let file = scene.write("");
    for (name, text) in [
        ("ca.crt", identity.ca_pem.clone()),
        ("a.cert", guest.pem()),
        ("a.key", key.serialize_pem()),
        ("both.pem", format!("{}{}", key.serialize_pem(), guest.pem())),
    ] {
        std::fs::write(file.with_file_name(name), text).unwrap();
    }
    let forms = [r#"[["a.cert", "a.key"]]"#, r#""both.pem""#, r#"["both.pem"]"#, r#"[["both.pem", ""]]"#];
    for (count, client) in forms.into_iter().enumerate() {
        scene.write(&format!("[host.\"https://{mirror}\"]\nca = \"ca.crt\"\nclient = {client}"));
        scene.read(&scene.repository(None), 0..10).await.unwrap();
        assert_eq!(came_in.load(Ordering::SeqCst), count + 1, "{client}");
    }
    scene.write(&format!("[host.\"https://{mirror}\"]\nca = \"ca.crt\""));
    scene.read(&scene.repository(None), 0..10).await.unwrap();
    assert_eq!(came_in.load(Ordering::SeqCst), forms.len(), "without one nobody comes in");
}

#[tokio::test]
async fn headers_go_to_their_host_and_nowhere_else() {
    let scene = Scene::with(
        Server::builder().basic("ada", "open sesame"),
        vec![Server::builder(), Server::builder()],
        |_| {},
    )
    .await;
    let header = format!("[host.\"{}\".header]\n", scene.mirrors[0].origin());
    let header = header + "x-team = [\"a\", \"b\"]\nauthorization = \"Bearer mine\"\nrange = \"bytes=0-0\"\n";
    scene.write(&[scene.table(0, ""), header, scene.table(1, "")].concat());
    scene.mirrors[0].delete_blob(NAME, &digest_of(&scene.small));
    scene.read_all(&scene.repository(ada())).await.unwrap();
    assert_eq!((Scene::delivered(&scene.mirrors[0]), Scene::delivered(&scene.mirrors[1])), (2, 1));
    for request in scene.mirrors[0].traffic().requests() {
        let team: Vec<_> = request.headers.get_all("x-team").iter().collect();
        assert_eq!(team, ["a", "b"], "{}", request.path);
        assert_eq!(request.header("authorization"), Some("Bearer mine"));
        assert_ne!(request.header("range"), Some("bytes=0-0"));
    }
    assert_eq!(scene.mirrors[1].traffic().count(shows_authorization), 0);
    for server in [&scene.mirrors[1], &scene.upstream] {
        assert_eq!(server.traffic().count(|request| request.header("x-team").is_some()), 0);
    }
}

#[tokio::test]
async fn headers_do_not_follow_a_redirect() {
    let scene = Scene::new(2).await;
    let header = format!("[host.\"{}\".header]\nx-token = \"secret\"\n", scene.mirrors[0].origin());
    // The second one is where the first redirects to: it is listed, so the way there is open.
    scene.write(&[scene.table(0, ""), header, scene.table(1, "")].concat());
    let target = format!("{}/v2/{NAME}/blobs/{}", scene.mirrors[1].origin(), digest_of(&scene.large));
    scene.mirrors[0].faults().always(Target::Blobs, Fault::Redirect(target));
    scene.read(&scene.repository(None), 0..10).await.unwrap();
    assert_eq!(scene.mirrors[1].traffic().count(|request| request.header("x-token").is_some()), 0);
}

#[tokio::test]
async fn a_path_that_overrides_is_used_as_it_stands() {
    let scene = Scene::new(1).await;
    scene.fill(&scene.mirrors[0], &format!("proxy/hub/{NAME}"));
    let origin = scene.mirrors[0].origin();
    scene.write(&format!("[host.\"{origin}/v2/proxy/hub\"]\noverride_path = true"));
    scene.read_all(&scene.repository(None)).await.unwrap();
    assert_eq!(Scene::delivered(&scene.mirrors[0]), 3);
    let outside =
        |request: &stowage_testkit::registry::RequestRecord| !request.path.starts_with("/v2/proxy/hub/");
    assert_eq!(scene.mirrors[0].traffic().count(outside), 0);
}

#[tokio::test]
async fn a_mirror_may_be_local_and_what_it_redirects_to_may_not() {
    let scene = Scene::new(1).await;
    scene.write_all();
    let inside = Server::builder().start().await.unwrap();
    for target in [inside.origin().to_owned(), format!("http://localhost:{}", inside.addr().port())] {
        scene.mirrors[0].faults().clear();
        scene.mirrors[0].faults().always(Target::Blobs, Fault::Redirect(format!("{target}/secret")));
        scene.read(&scene.repository(None), 0..10).await.unwrap();
    }
    assert!(inside.traffic().connections().is_empty());
}

#[tokio::test]
async fn the_command_lines_loopback_switch_opens_nothing_to_a_mirrors_redirects() {
    let switched = |options: &mut stowage_registry::RegistryOptions| {
        options.plain_http = PlainHttp { hosts: vec![], loopback: true };
    };
    let scene = Scene::with(Server::builder(), vec![Server::builder()], switched).await;
    scene.write_all();
    let inside = Server::builder().start().await.unwrap();
    scene.mirrors[0].faults().always(Target::Blobs, Fault::Redirect(format!("{}/x", inside.origin())));
    scene.read(&scene.repository(None), 0..10).await.unwrap();
    assert_eq!(Scene::gets(&scene.mirrors[0]), 1);
    assert!(inside.traffic().connections().is_empty());
}

#[tokio::test]
async fn a_file_says_how_the_registry_itself_is_reached() {
    let unlisted = |options: &mut stowage_registry::RegistryOptions| {
        options.plain_http = PlainHttp::default();
    };
    // Plain http, because an administrator wrote it.
    let scene = Scene::with(Server::builder().basic("ada", "open sesame"), vec![], unlisted).await;
    let error = failure(scene.repository(ada()).resolve(&scene.reference())).await;
    assert!(matches!(error, RegistryError::Refused { .. }), "{error:?}");
    for text in ["server = ORIGIN", "[host.ORIGIN]", "server = \"https://HOST\"\n[host.\"https://HOST\"]"] {
        let origin = format!("{:?}", scene.upstream.origin());
        scene.write(&text.replace("ORIGIN", &origin).replace("HOST", &scene.upstream.host()));
        let read = scene.read_all(&scene.repository(ada())).await;
        assert_eq!(read.is_ok(), !text.contains("https"), "{text}: {read:?}");
    }

    // An authority of its own, in its table, at the top, or in Docker's layout; and its credential.
    let tls = Server::builder().tls().basic("ada", "open sesame");
    let scene = Scene::with(tls, vec![], |options| {
        options.plain_http = PlainHttp::default();
        options.local_hosts = crate::stage::hosts(&["127.0.0.1"]);
    })
    .await;
    let origin = scene.upstream.origin();
    let texts = [
        format!("server = \"{origin}\"\n[host.\"{origin}\"]\nca = \"ca.crt\""),
        format!("[host.\"{origin}\"]\nca = \"ca.crt\""),
        format!("server = \"{origin}\"\nca = \"ca.crt\""),
        "ca = \"ca.crt\"".to_owned(),
        String::new(),
    ];
    for text in texts {
        let file = scene.write(&text);
        std::fs::write(file.with_file_name("ca.crt"), scene.upstream.ca_pem().unwrap()).unwrap();
        scene.upstream.traffic().reset();
        scene.read_all(&scene.repository(ada())).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(scene.upstream.traffic().count(shows_authorization) >= 4, "{text}");
    }
}
