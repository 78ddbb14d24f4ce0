//! Kubelet credential provider plugins. The program is a link to `sh`, its arguments are the script.

use stowage_testkit::registry::{Access, BearerOptions, Registry};
use tonic::Code;

use super::*;
use crate::harness::scene;

/// A plugin that answers with the words of the file `answer`, and adds a line to `runs` each time.
pub(super) struct Plugin {
    directory: PathBuf,
    host: String,
}

impl Plugin {
    pub(super) fn new(scene: &Scene, registry: &Registry) -> Self {
        let directory = scene.root().join("plugins");
        std::fs::create_dir(&directory).unwrap();
        std::os::unix::fs::symlink("/bin/sh", directory.join("plugin")).unwrap();
        let plugin = Self { directory, host: registry.host() };
        plugin.configure(&json!(null), "");
        plugin
    }

    /// Writes kubelet's file; `before` is run before the answer is given.
    pub(super) fn configure(&self, token_attributes: &Value, before: &str) {
        let at = self.directory.display();
        let script = format!("echo run >> {at}/runs; cat > {at}/request; {before} cat {at}/answer");
        let mut more = json!({ "args": ["-c", script] });
        if !token_attributes.is_null() {
            more["tokenAttributes"] = token_attributes.clone();
        }
        self.write(&more);
    }

    /// Writes kubelet's file with an environment that is none.
    pub(super) fn break_file(&self, env: &Value) {
        self.write(&json!({ "env": env }));
    }

    fn write(&self, more: &Value) {
        let mut provider = json!({
            "name": "plugin", "matchImages": [self.host], "defaultCacheDuration": "0s",
            "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        });
        for (key, value) in more.as_object().unwrap() {
            provider[key] = value.clone();
        }
        let file = json!({
            "apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig", "providers": [provider],
        });
        std::fs::write(self.directory.join("config.json"), file.to_string()).unwrap();
    }

    pub(super) fn answers(&self, username: &str, password: &str) {
        self.answers_for(username, password, "0s");
    }

    /// The same, to be kept for so long.
    fn answers_for(&self, username: &str, password: &str, duration: &str) {
        let answer = json!({
            "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "kind": "CredentialProviderResponse",
            "cacheKeyType": "Registry", "cacheDuration": duration, "auth": { &self.host: { "username": username, "password": password } },
        });
        std::fs::write(self.directory.join("answer"), answer.to_string()).unwrap();
    }

    /// A pipe that a plugin can be made to wait at.
    pub(super) fn pipe(&self) -> PathBuf {
        let pipe = self.directory.join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        pipe
    }

    /// The next runs find no answer.
    pub(super) fn answers_nothing(&self) {
        std::fs::remove_file(self.directory.join("answer")).unwrap();
    }

    /// The section of the node's configuration.
    pub(super) fn section(&self) -> Value {
        json!({ "configFile": self.directory.join("config.json"), "binDir": self.directory })
    }

    pub(super) fn runs(&self) -> usize {
        std::fs::read_to_string(self.directory.join("runs")).map_or(0, |runs| runs.lines().count())
    }
}

#[test]
fn a_plugins_credential_counts_for_whom_the_plugin_names() {
    for builder in
        [Registry::builder().basic("root", "root"), Registry::builder().bearer(BearerOptions::default())]
    {
        scene(async move |scene| {
            let registry =
                accounts(builder).user_of("bob", "bob's", &[("bob/*", Access::Pull)]).start().await.unwrap();
            let elsewhere = Registry::builder().start().await.unwrap();
            let model = Model::push(&registry, REPOSITORY, "v1", 1, 2 * MIB);
            let plugin = Plugin::new(&scene, &registry);
            let config = Config::new(&scene, &json!({ "credentials": { "providers": plugin.section() } }));
            let node = scene
                .node()
                .registry(&registry)
                .registry(&elsewhere)
                .arg("--config", config.path())
                .start()
                .await;
            let request = |attributes: &[(&str, &str)]| volume(&node, "team", "default", attributes);
            plugin.answers("ada", "ada's own");
            served(&node, &request(&model.attributes()), &model).await;
            let (proofs, runs) = (heads(&registry), plugin.runs());
            assert!(runs >= 1);

            // A rotated password is the same account's, of every pod of the node.
            registry.set_password("ada", "new");
            plugin.answers("ada", "new");
            served(&node, &request(&always(&model)), &model).await;
            served(&node, &volume(&node, "other", "default", &never(&model)), &model).await;
            assert_eq!(heads(&registry), proofs, "a proof was asked for");
            // A revoked one is refused as soon as the registry is asked.
            plugin.answers("ada", "ada's own");
            refused(&node, &request(&always(&model)), Code::Unauthenticated, &registry.host()).await;
            // Another account has none of its grants.
            plugin.answers("bob", "bob's");
            refused(&node, &request(&never(&model)), Code::PermissionDenied, "Never").await;
            refused(&node, &request(&model.attributes()), Code::PermissionDenied, &registry.host()).await;
            // A pod's own secret comes first, good or bad.
            plugin.answers("ada", "new");
            let mut own = request(&model.attributes());
            let auth = json!({ "auths": { registry.host(): { "username": "bob", "password": "bob's" } } });
            own.secrets.insert(".dockerconfigjson".to_owned(), auth.to_string());
            let runs = plugin.runs();
            refused(&node, &own, Code::PermissionDenied, &registry.host()).await;
            // Images that the plugin is not for.
            let public = Model::push(&elsewhere, "a", "v1", 2, MIB);
            served(&node, &request(&public.attributes()), &public).await;
            assert_eq!(plugin.runs(), runs, "the plugin was run");
            node.nothing_left().await;
        });
    }
}

#[test]
fn a_plugin_that_fails_is_named_and_asked_again() {
    scene(async |scene| {
        let registry = accounts(Registry::builder().basic("root", "root")).start().await.unwrap();
        let model = Model::push(&registry, REPOSITORY, "v1", 1, MIB);
        let plugin = Plugin::new(&scene, &registry);
        let config = Config::new(&scene, &json!({ "credentials": { "providers": plugin.section() } }));
        let node = scene.node().registry(&registry).arg("--config", config.path()).start().await;
        let request = || volume(&node, "team", "default", &model.attributes());
        // No answer yet: `cat` fails.
        refused(&node, &request(), Code::Unavailable, "`plugin`").await;
        plugin.answers("ada", "ada's own");
        served(&node, &request(), &model).await;
        // A broken file changes nothing.
        plugin.configure(&json!({ "serviceAccountTokenAudience": "" }), "");
        served(&node, &request(), &model).await;
        assert_eq!(node.count("stowage_credential_providers_valid").await, 0);
        assert_eq!(node.log().matches("the credential providers are misconfigured").count(), 1);
        plugin.configure(&json!(null), "");
        served(&node, &request(), &model).await;
        assert_eq!(node.count("stowage_credential_providers_valid").await, 1);
        node.nothing_left().await;
    });
}

#[test]
fn an_answer_that_the_registry_does_not_take_any_more_is_asked_for_anew() {
    scene(async |scene| {
        let registry = accounts(Registry::builder().basic("root", "root")).start().await.unwrap();
        let model = Model::push(&registry, REPOSITORY, "v1", 1, MIB);
        let plugin = Plugin::new(&scene, &registry);
        let config = Config::new(&scene, &json!({ "credentials": { "providers": plugin.section() } }));
        let node = scene.node().registry(&registry).arg("--config", config.path()).start().await;
        let request = || volume(&node, "team", "default", &always(&model));
        plugin.answers_for("ada", "ada's own", "12h");
        served(&node, &request(), &model).await;
        served(&node, &request(), &model).await;
        assert_eq!(plugin.runs(), 1, "the answer is kept");
        registry.set_password("ada", "new");
        plugin.answers_for("ada", "new", "12h");
        // A pod's own wrong secret says nothing of the plugin's answer.
        let mut own = request();
        let auth = json!({ "auths": { registry.host(): { "username": "ada", "password": "wrong" } } });
        own.secrets.insert(".dockerconfigjson".to_owned(), auth.to_string());
        refused(&node, &own, Code::Unauthenticated, &registry.host()).await;
        refused(&node, &request(), Code::Unauthenticated, &registry.host()).await;
        assert_eq!(plugin.runs(), 1);
        served(&node, &request(), &model).await;
        assert_eq!(plugin.runs(), 2);
        node.nothing_left().await;
    });
}

#[test]
fn a_plugin_that_is_given_tokens_speaks_for_the_service_account() {
    scene(async |scene| {
        let registry = accounts(Registry::builder().basic("root", "root")).start().await.unwrap();
        let model = Model::push(&registry, REPOSITORY, "v1", 1, MIB);
        let plugin = Plugin::new(&scene, &registry);
        let attributes = json!({
            "serviceAccountTokenAudience": AUDIENCE, "cacheType": "ServiceAccount", "requireServiceAccount": true,
        });
        // It answers with the token itself as the password.
        plugin.answers(ROBOT, "TOKEN");
        let at = plugin.directory.display();
        let before = format!(
            "t=$(sed 's/.*\"serviceAccountToken\":\"//;s/\".*//' {at}/request); sed \"s/TOKEN/$t/\" {at}/answer; exit;"
        );
        plugin.configure(&attributes, &before);
        let config = Config::new(&scene, &json!({ "credentials": { "providers": plugin.section() } }));
        let node = scene.node().registry(&registry).arg("--config", config.path()).start().await;
        let [first, second] = ["a", "b"].map(|salt| token("team", "default", "u-1", salt));
        registry.set_password(ROBOT, &first);
        let own = |attributes: &[(&str, &str)]| volume(&node, "team", "default", attributes);
        served(&node, &with_token(own(&model.attributes()), &first), &model).await;
        let proofs = heads(&registry);
        registry.set_password(ROBOT, &second);
        served(&node, &with_token(own(&always(&model)), &second), &model).await;
        assert_eq!(heads(&registry), proofs, "a rotated token of the same service account");
        refused(&node, &with_token(own(&always(&model)), &first), Code::Unauthenticated, &registry.host())
            .await;
        // The same user name, another service account.
        let other = token("team", "other", "u-2", "x");
        let stranger = |attributes: &[(&str, &str)]| volume(&node, "team", "other", attributes);
        refused(&node, &with_token(stranger(&never(&model)), &other), Code::PermissionDenied, "Never").await;
        refused(
            &node,
            &with_token(stranger(&model.attributes()), &second),
            Code::Unauthenticated,
            "team/other",
        )
        .await;
        refused(&node, &stranger(&model.attributes()), Code::Unauthenticated, "tokenRequests").await;
        node.nothing_left().await;
    });
}
