//! One run: set up, play, tell, take away.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::arguments::Arguments;
use crate::diagnosis;
use crate::install::Install;
use crate::labels;
use crate::plugin::Plugin;
use crate::registry::Registry;
use crate::scenarios::Scenario;
use crate::stage::Stage;
use crate::verdict::{Row, Summary, Verdict};
use crate::world::World;

/// Plays the scenarios and says whether all of them held.
pub(crate) async fn run(arguments: &Arguments, image: &str, scenarios: &[Scenario]) -> Result<bool> {
    let client = connect(arguments).await?;
    let world = World { client, namespace: arguments.namespace.clone(), run: labels::new_run() };
    let mut summary = Summary::default();
    let mut installed = None;
    let played = tokio::select! {
        played = play_all(arguments, image, scenarios, &world, &mut installed, &mut summary) => played,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    if played.is_err() {
        let plugin = arguments.plugin_namespace.as_str();
        tell_what_is_there(&world, &[&world.namespace, plugin], &arguments.output.join("set-up")).await;
    }
    if arguments.keep {
        println!("everything is left in the namespaces {} and {}", world.namespace, world.restricted());
    } else {
        take_away(&world, installed.as_ref()).await;
    }
    println!("\n{}", summary.table());
    write(&arguments.output.join("junit.xml"), &summary.junit())?;
    played?;
    Ok(summary.held())
}

async fn connect(arguments: &Arguments) -> Result<Client> {
    let options = KubeConfigOptions { context: arguments.context.clone(), ..KubeConfigOptions::default() };
    let config = match &arguments.kubeconfig {
        Some(file) => {
            let kubeconfig = Kubeconfig::read_from(file)
                .with_context(|| format!("cannot read the kubeconfig {}", file.display()))?;
            Config::from_custom_kubeconfig(kubeconfig, &options).await
        }
        None => Config::from_kubeconfig(&options).await,
    };
    let config = config.context("there is no usable kubeconfig; name one with --kubeconfig")?;
    Client::try_from(config).context("cannot talk to the cluster of the kubeconfig")
}

async fn play_all<'a>(
    arguments: &'a Arguments,
    image: &str,
    scenarios: &[Scenario],
    world: &World,
    installed: &mut Option<Install<'a>>,
    summary: &mut Summary,
) -> Result<()> {
    let version = world.version().await?;
    println!("Kubernetes {}.{}, run {}, image {image}", version.0, version.1, world.run);
    world.make_namespaces().await?;
    let registry =
        Registry::reserve(&world.client, &world.namespace, &world.run, arguments.registry_ip).await?;
    if arguments.install {
        println!("==> installing the chart {}", arguments.chart.display());
        world.make_plugin_namespace(&arguments.plugin_namespace).await?;
        *installed = Some(Install::run(arguments, image, &registry.hosts()).await?);
    } else {
        println!(
            "the node configuration and the controller's must have `registries.plainHttp: [{}]`",
            registry.hosts().join(", ")
        );
    }
    let plugin = Plugin::find(&world.client).await?;
    plugin.rolled_out().await?;
    println!("==> stocking the registry");
    let registry = registry.start(image, &world.run).await?;
    for scenario in scenarios {
        let stage = Stage {
            client: world.client.clone(),
            namespace: world.namespace.clone(),
            restricted: world.restricted(),
            run: world.run.clone(),
            scenario: scenario.name,
            image: image.to_owned(),
            driver: arguments.driver.clone(),
            version,
            registry: registry.clone(),
            plugin: plugin.clone(),
        };
        summary.add(play(arguments, world, &stage, scenario).await);
    }
    Ok(())
}

/// Plays one scenario; its failure is told with everything that is there, and the next one finds a clean stage.
async fn play(arguments: &Arguments, world: &World, stage: &Stage, scenario: &Scenario) -> Row {
    println!("==> {}: {}", scenario.name, scenario.shows);
    let begun = Instant::now();
    let mut verdict = match (scenario.play)(stage).await {
        Ok(verdict) => verdict,
        Err(error) => {
            let text = format!("{error:#}");
            eprintln!("{}: {text}", scenario.name);
            let namespaces = [world.namespace.as_str(), stage.restricted.as_str(), stage.plugin.namespace()];
            let directory = arguments.output.join(scenario.name);
            tell_what_is_there(world, &namespaces, &directory).await;
            Verdict::Failed(text)
        }
    };
    let keep = arguments.keep && matches!(verdict, Verdict::Failed(_));
    if !keep && let Err(error) = world.sweep(scenario.name).await {
        // What cannot be taken away is a promise that did not hold: pods must be able to go.
        let text = format!("what the scenario made does not go: {error:#}");
        eprintln!("{}: {text}", scenario.name);
        if !matches!(verdict, Verdict::Failed(_)) {
            verdict = Verdict::Failed(text);
        }
    }
    Row { scenario: scenario.name.to_owned(), verdict, took: begun.elapsed() }
}

async fn tell_what_is_there(world: &World, namespaces: &[&str], directory: &Path) {
    match diagnosis::collect(&world.client, namespaces, directory).await {
        Ok(essence) => eprintln!("{essence}(all of it: {})", directory.display()),
        Err(error) => eprintln!("the logs cannot be kept: {error:#}"),
    }
}

/// What is left behind is told and changes no verdict.
async fn take_away(world: &World, installed: Option<&Install<'_>>) {
    println!("==> taking everything away");
    let told = |ended: Result<()>| {
        if let Err(error) = ended {
            eprintln!("{error:#}");
        }
    };
    // In this order: the chart refuses to go while pods use the driver, and they need the plugin to go.
    told(world.end().await);
    if let Some(installed) = installed {
        told(installed.remove().await);
    }
    told(world.end_plugin().await);
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
