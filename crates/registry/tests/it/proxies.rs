//! Proxies, as the environment of the process names them.

use stowage_registry::{PlainHttp, ProxySettings, Registry, RegistryError, RegistryOptions, SetupError};
use stowage_testkit::Registry as Server;

use crate::stage::{NAME, SIZE, Stage, failure, hosts, options, stage, within};

/// A registry under a name that only the proxy knows.
fn behind(proxy: &Server, no_proxy: Option<&str>) -> Registry {
    let proxy = ProxySettings {
        http: Some(format!("http://{}", proxy.host())),
        no_proxy: no_proxy.map(str::to_owned),
        ..ProxySettings::default()
    };
    let plain_http = PlainHttp { hosts: hosts(&["registry.stowage.invalid", "127.0.0.1"]), loopback: false };
    Registry::new(RegistryOptions { proxy, plain_http, ..options() }).unwrap()
}

fn asks_by_proxy(stage: &Stage) -> usize {
    stage.server.traffic().count(|request| request.header("host") == Some("registry.stowage.invalid"))
}

#[tokio::test]
async fn a_registry_is_asked_by_the_proxy_unless_it_is_listed_as_direct() {
    let stage = stage().await;
    let reference = format!("registry.stowage.invalid/{NAME}:v1").parse().unwrap();
    let repository = behind(&stage.server, None).repository(&reference, None);
    assert_eq!(within(repository.head_blob(&stage.digest)).await.unwrap(), Some(SIZE));
    assert_eq!(within(repository.read_range(&stage.digest, 0..9)).await.unwrap(), stage.expected(0..9));
    assert_eq!(asks_by_proxy(&stage), 2);

    let direct = behind(&stage.server, Some(".stowage.invalid")).repository(&reference, None);
    let error = failure(direct.head_blob(&stage.digest)).await;
    assert!(matches!(error, RegistryError::Unavailable { .. }), "{error:?}");
    assert_eq!(asks_by_proxy(&stage), 2);
}

#[tokio::test]
async fn loopback_is_never_asked_of_the_proxy() {
    let (stage, proxy) = (stage().await, Server::builder().start().await.unwrap());
    let client = behind(&proxy, None);
    let repository = crate::stage::open(&client, &stage.server, NAME, None);
    assert_eq!(within(repository.head_blob(&stage.digest)).await.unwrap(), Some(SIZE));
    assert!(proxy.traffic().connections().is_empty());
}

#[tokio::test]
async fn a_proxy_that_is_no_url_is_refused_without_its_password() {
    let proxy = ProxySettings { https: Some("http://ada:canary-7@:x".into()), ..ProxySettings::default() };
    let error = Registry::new(RegistryOptions { proxy, ..options() }).err().unwrap();
    assert!(matches!(error, SetupError::Proxy { variable: "HTTPS_PROXY" }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("canary-7"));
}
