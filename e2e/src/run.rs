//! One run: set up, play, tell, take away.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::arguments::Arguments;
use crate::diagnosis;
use crate::install::Install;
use crate::labels;
use crate::plugin::Plugin;
use crate::preflight;
use crate::record::Record;
use crate::registry::Registry;
use crate::scenarios::Scenario;
use crate::signals::Signals;
use crate::stage::Stage;
use crate::teardown;
use crate::verdict::{Row, Verdict};
use crate::world::World;

/// How long one answer of the API server may take.
const ANSWER: Duration = Duration::from_mins(1);
/// How long the diagnosis of one failure may take.
const DIAGNOSIS: Duration = Duration::from_mins(3);

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Everything was played, and held.
    Held,
    /// Something did not hold, or was not played.
    Failed,
    /// Somebody asked for an end.
    Interrupted,
}

/// What a run has made so far.
#[derive(Default)]
pub(crate) struct Made<'a> {
    /// Namespaces and what is in them, at least some of it.
    pub(crate) begun: bool,
    /// The chart; from the moment on in which helm is started.
    pub(crate) install: Option<Install<'a>>,
    /// The plugin, as soon as it was found.
    pub(crate) plugin: Option<Plugin>,
}

/// Why scenarios were not played.
enum Stopped {
    SetUp(anyhow::Error),
    Interrupted,
    Deadline(Duration),
}

/// Plays the scenarios and says whether all of them held.
pub(crate) async fn run(arguments: &Arguments, image: &str, scenarios: &[Scenario]) -> Result<Ended> {
    let mut signals = Signals::listen()?;
    let client = connect(arguments).await?;
    let world = World { client, namespace: arguments.namespace.clone(), run: labels::new_run() };
    let mut record = Record::new(arguments.output.join("junit.xml"));
    let mut made = Made::default();
    let stopped = {
        let playing = play_all(arguments, image, scenarios, &world, &mut made, &mut record);
        let limit = arguments.deadline.unwrap_or(Duration::MAX);
        tokio::select! {
            played = tokio::time::timeout(limit, playing) => match played {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(Stopped::SetUp(error)),
                Err(_) => Some(Stopped::Deadline(limit)),
            },
            () = signals.next() => Some(Stopped::Interrupted),
        }
    };
    if let Some(stopped) = &stopped {
        not_played(scenarios, stopped, &mut record);
    }
    let mut interrupted = matches!(stopped, Some(Stopped::Interrupted));
    // Who asked for an end does not want to wait for a diagnosis.
    let tell = stopped.is_some() && !interrupted;
    let mut ending = std::pin::pin!(end(arguments, &world, &made, tell));
    let row = loop {
        tokio::select! {
            row = &mut ending => break row,
            () = signals.next() => {
                if interrupted {
                    eprintln!("ended at once; what is left has the label {}={}", labels::RUN, world.run);
                    return Ok(Ended::Interrupted);
                }
                interrupted = true;
                eprintln!("everything is being taken away; another signal ends that, too");
            }
        }
    };
    if let Some(row) = row {
        record.add(row);
    }
    println!("\n{}", record.summary().table());
    match stopped {
        _ if interrupted => Ok(Ended::Interrupted),
        Some(Stopped::SetUp(error)) => Err(error),
        _ if record.summary().held() => Ok(Ended::Held),
        _ => Ok(Ended::Failed),
    }
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
    let mut config = config.context("there is no usable kubeconfig; name one with --kubeconfig")?;
    config.read_timeout = Some(ANSWER);
    Client::try_from(config).context("cannot talk to the cluster of the kubeconfig")
}

async fn play_all<'a>(
    arguments: &'a Arguments,
    image: &str,
    scenarios: &[Scenario],
    world: &World,
    made: &mut Made<'a>,
    record: &mut Record,
) -> Result<()> {
    let stage = set_up(arguments, image, world, made).await?;
    for scenario in scenarios {
        let stage = Stage { scenario: scenario.name, ..stage.clone() };
        let row = play(arguments, world, &stage, scenario).await;
        println!("<== {}", row.line());
        record.add(row);
    }
    Ok(())
}

/// Everything that scenarios need.
async fn set_up<'a>(
    arguments: &'a Arguments,
    image: &str,
    world: &World,
    made: &mut Made<'a>,
) -> Result<Stage> {
    let version = world.version().await?;
    println!("Kubernetes {}.{}, run {}, image {image}", version.0, version.1, world.run);
    made.begun = true;
    world.make_namespaces().await?;
    let registry =
        Registry::reserve(&world.client, &world.namespace, &world.run, arguments.registry_ip).await?;
    if arguments.install {
        println!("==> installing the chart {}", arguments.chart.display());
        world.make_plugin_namespace(&arguments.plugin_namespace).await?;
        let install = made.install.insert(Install::new(arguments));
        install.run(&world.client, image, &registry.hosts()).await?;
    } else {
        println!(
            "the node configuration and the controller's must have `registries.plainHttp: [{}]`",
            registry.hosts().join(", ")
        );
    }
    let plugin = made.plugin.insert(Plugin::find(&world.client, &arguments.driver).await?).clone();
    plugin.rolled_out().await?;
    println!("==> stocking the registry");
    let stage = Stage {
        client: world.client.clone(),
        namespace: world.namespace.clone(),
        restricted: world.restricted(),
        run: world.run.clone(),
        scenario: preflight::NAME,
        image: image.to_owned(),
        driver: arguments.driver.clone(),
        version,
        registry: registry.start(image, &world.run).await?,
        plugin,
    };
    if !arguments.install {
        preflight::preflight(&stage).await?;
        world.sweep(stage.scenario).await?;
    }
    Ok(stage)
}

/// Plays one scenario; its failure is told with everything that is there, and the next one finds a clean stage.
async fn play(arguments: &Arguments, world: &World, stage: &Stage, scenario: &Scenario) -> Row {
    println!("==> {}: {}", scenario.name, scenario.shows);
    let begun = Instant::now();
    let mut verdict = match (scenario.play)(stage).await {
        Ok(Verdict::Skipped(why)) if arguments.must_play.iter().any(|name| name == scenario.name) => {
            Verdict::Failed(format!("it must be played (--must-play), and was skipped: {why}"))
        }
        Ok(verdict) => verdict,
        Err(error) => {
            let text = format!("{error:#}");
            eprintln!("{}: {text}", scenario.name);
            let namespaces = [world.namespace.as_str(), stage.restricted.as_str(), stage.plugin.namespace()];
            tell_what_is_there(world, &namespaces, &arguments.output.join(scenario.name)).await;
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
    Row::new(scenario.name, verdict, begun.elapsed())
}

/// A row for the set-up that failed, and one for every scenario that has none yet.
fn not_played(scenarios: &[Scenario], stopped: &Stopped, record: &mut Record) {
    let why = match stopped {
        Stopped::SetUp(error) => {
            let text = format!("{error:#}");
            record.add(Row::new("set-up", Verdict::Unplayed(text), Duration::ZERO));
            "the run could not be set up".to_owned()
        }
        Stopped::Interrupted => "the run was interrupted".to_owned(),
        Stopped::Deadline(limit) => format!("the run's deadline of {} s was over", limit.as_secs()),
    };
    let left: Vec<&Scenario> =
        scenarios.iter().filter(|scenario| !record.summary().has(scenario.name)).collect();
    for scenario in left {
        record.add(Row::new(scenario.name, Verdict::Unplayed(why.clone()), Duration::ZERO));
    }
}

/// Tells what is there where that is wanted, and takes everything away unless it shall be kept.
async fn end(arguments: &Arguments, world: &World, made: &Made<'_>, tell: bool) -> Option<Row> {
    if !made.begun {
        return None;
    }
    if tell {
        let plugin = made.plugin.as_ref().map_or(arguments.plugin_namespace.as_str(), Plugin::namespace);
        let namespaces = [world.namespace.as_str(), &world.restricted(), plugin];
        tell_what_is_there(world, &namespaces, &arguments.output.join("stopped")).await;
    }
    if arguments.keep {
        println!("everything is left in the namespaces {} and {}", world.namespace, world.restricted());
        return None;
    }
    println!("==> taking everything away");
    let row = teardown::take_away(world, made).await;
    println!("<== {}", row.line());
    Some(row)
}

async fn tell_what_is_there(world: &World, namespaces: &[&str], directory: &Path) {
    let collected = diagnosis::collect(&world.client, namespaces, directory);
    let collected = tokio::time::timeout(DIAGNOSIS, collected).await;
    match collected.unwrap_or_else(|_| Err(anyhow!("that took more than {} s", DIAGNOSIS.as_secs()))) {
        Ok(essence) => eprintln!("{essence}(all of it: {})", directory.display()),
        Err(error) => eprintln!("the logs cannot be kept: {error:#}"),
    }
}
