//! A Slurm cluster on this machine, out of Debian's `slurm-wlm` and `munge` (22.05): one controller, one `slurmd` for each
//! node, a `munged` of its own. Each cluster has its own folder and ports, so tests run theirs at the same time.
//!
//! Don't submit with `--export=NONE` here: Slurm runs root's login profile for such a job. Killed in the midst of it,
//! `pyenv init` left a lock behind, for which each later login shell waited 60 s.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The controller looks at its queue once a second, so a job starts within a second. `config_overrides`: Slurm believes
/// the CPU counts of `slurm.conf`. `cred_expire`: so long a requeued job has to wait, 120 s if unset.
const DEFAULTS: &str = "
    ClusterName=test SlurmctldHost=HOST(127.0.0.1) SlurmUser=root SlurmdUser=root MailProg=/bin/true
    AuthType=auth/munge CredType=cred/munge AuthInfo=socket=FOLDER/munge.socket,cred_expire=5
    StateSaveLocation=FOLDER/state SlurmdSpoolDir=FOLDER/spool-%n
    SlurmctldPidFile=FOLDER/slurmctld.pid SlurmdPidFile=FOLDER/slurmd-%n.pid
    SlurmctldLogFile=FOLDER/slurmctld.log SlurmdLogFile=FOLDER/slurmd-%n.log
    ProctrackType=proctrack/pgid TaskPlugin=task/none SwitchType=switch/none MpiDefault=none
    JobAcctGatherType=jobacct_gather/none JobCompType=jobcomp/none AccountingStorageType=accounting_storage/none
    SelectType=select/cons_tres SelectTypeParameters=CR_CPU GresTypes=gpu SlurmdParameters=config_overrides
    SchedulerType=sched/backfill SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
    ReturnToService=2 SlurmdTimeout=10 MessageTimeout=5 KillWait=1 InactiveLimit=0 MinJobAge=300";

const MUNGED: &str = "--foreground --socket=FOLDER/munge.socket --key-file=FOLDER/munge.key
    --pid-file=FOLDER/munged.pid --seed-file=FOLDER/munged.seed --log-file=FOLDER/munged.log";

#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a> {
    pub(crate) name: &'a str,
    /// `h100` gives the node `gpu:h100:1`, so one job at a time that asks for it.
    pub(crate) gres: Option<&'a str>,
    /// The first node's partition is the default one.
    pub(crate) partition: &'a str,
}

/// A running cluster. Dropped, it kills its daemons and the processes of its jobs, and removes its folder.
pub(crate) struct Cluster {
    folder: TempDir,
    /// By name of the node, `munged` or `slurmctld`.
    daemons: Mutex<BTreeMap<String, Child>>,
}

impl Cluster {
    /// Why no cluster can be started here.
    pub(crate) fn missing() -> Option<String> {
        if fs_err::metadata("/proc/self").map_or(true, |own| own.uid() != 0) {
            return Some("a Slurm cluster has to be started by root".into());
        }
        let programs = ["munged", "slurmctld", "slurmd", "sbatch"];
        let missing = programs.iter().find(|name| find_program(name).is_none())?;
        Some(format!("`{missing}` not found: install Debian's `slurm-wlm` and `munge`"))
    }

    pub(crate) fn start(nodes: &[Node<'_>]) -> Self {
        Self::start_with(nodes, "")
    }

    /// Lines of `slurm.conf` in `extra` replace the fixture's lines of the same keys, and may add partitions.
    pub(crate) fn start_with(nodes: &[Node<'_>], extra: &str) -> Self {
        if let Some(why) = Self::missing() {
            panic!("{why}");
        }
        let cluster = Self { folder: tempfile::tempdir().unwrap(), daemons: Mutex::default() };
        cluster.configure(nodes, extra);
        // Jobs and clients of other users reach munged's socket.
        fs_err::set_permissions(cluster.folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        cluster.spawn("munged", "munged", MUNGED);
        cluster.wait("munged listens", || cluster.path("munge.socket").exists());
        cluster.spawn("slurmctld", "slurmctld", "-D");
        for node in nodes {
            cluster.spawn(node.name, "slurmd", &format!("-D -N {}", node.name));
        }
        cluster.wait("all nodes are idle", || {
            let states = cluster.states();
            states.len() == nodes.len() && states.values().all(|state| state == "idle")
        });
        cluster
    }

    fn configure(&self, nodes: &[Node<'_>], extra: &str) {
        let host = fs_err::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let host = host.trim().split('.').next().unwrap();
        let key = |line: &str| line.split('=').next().unwrap_or_default().trim().to_lowercase();
        let replaced: BTreeSet<String> = extra.lines().map(key).collect();
        let defaults = self.fill(DEFAULTS).replace("HOST", host);
        let defaults = defaults.split_whitespace().filter(|line| !replaced.contains(&key(line)));
        let mut conf = format!("SlurmctldPort={}\n", free_port());
        conf.extend(defaults.map(|line| format!("{line}\n")));

        let mut gres_conf = String::new();
        for (index, Node { name, gres, partition }) in nodes.iter().enumerate() {
            conf += &format!("NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={} ", free_port());
            conf += "CPUs=8 RealMemory=4096 ";
            if let Some(kind) = gres {
                conf += &format!("Gres=gpu:{kind}:1");
                // Slurm wants a device, any will do.
                gres_conf += &format!("NodeName={name} Name=gpu Type={kind} File=/dev/null\n");
            }
            let members = nodes.iter().filter(|node| node.partition == *partition).map(|node| node.name);
            let members: Vec<&str> = members.collect();
            if members[0] == *name {
                let default = if index == 0 { "YES" } else { "NO" };
                conf += &format!("\nPartitionName={partition} Nodes={} Default={default}", members.join(","));
            }
            conf += "\n";
        }
        fs_err::write(self.path("slurm.conf"), conf + extra + "\n").unwrap();
        fs_err::write(self.path("gres.conf"), gres_conf).unwrap();
        fs_err::create_dir(self.path("state")).unwrap();
        // One more name of it for each daemon, by which its processes are found.
        for name in nodes.iter().map(|node| node.name).chain(["munged", "slurmctld"]) {
            fs_err::os::unix::fs::symlink("slurm.conf", self.path(&format!("{name}.conf"))).unwrap();
        }
        // With a key that others can guess they could start jobs as root.
        let mut key = [0; 64];
        fs_err::File::open("/dev/urandom").unwrap().read_exact(&mut key).unwrap();
        fs_err::write(self.path("munge.key"), key).unwrap();
        fs_err::set_permissions(self.path("munge.key"), PermissionsExt::from_mode(0o600)).unwrap();
    }

    /// What Slurm's clients need. `slurm.conf` names munged's socket.
    pub(crate) fn environment(&self) -> Vec<(String, OsString)> {
        vec![("SLURM_CONF".into(), self.path("slurm.conf").into())]
    }

    /// A command in the environment of this cluster.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(find_program(program).unwrap_or_else(|| program.into()));
        command.envs(self.environment());
        command
    }

    /// The standard output of a Slurm client that has to succeed.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program).args(arguments).stdin(Stdio::null()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {}: {errors}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Id (`7`, or `7_0` in an array) and state of each job, finished ones too for `MinJobAge` seconds.
    pub(crate) fn jobs(&self) -> Vec<(String, String)> {
        pairs(&self.run("squeue", &["--noheader", "--states=all", "--array", "--format=%i %T"]))
    }

    /// `idle`, `mixed`, `down`, … by name of the node; `down*` if it doesn't respond.
    pub(crate) fn states(&self) -> BTreeMap<String, String> {
        let output = self.command("sinfo").args(["--noheader", "--Node", "--format=%N %T"]).output().unwrap();
        pairs(&String::from_utf8_lossy(&output.stdout)).into_iter().collect()
    }

    /// Kills `slurmd` of a node and every process of its jobs, as if the machine had lost its power.
    pub(crate) fn kill_node(&self, name: &str) {
        self.kill_processes(&format!("{name}.conf"));
        self.end(name, "KILL");
    }

    /// Kills `slurmd` of a node, and leaves its jobs running.
    pub(crate) fn kill_slurmd(&self, name: &str) {
        self.end(name, "KILL");
    }

    /// Starts `slurmd` of a node again, and waits until the node takes jobs.
    pub(crate) fn restart_node(&self, name: &str) {
        if self.daemons().contains_key(name) {
            self.kill_slurmd(name);
        }
        self.spawn(name, "slurmd", &format!("-D -N {name}"));
        self.wait(&format!("node {name} is up"), || {
            self.states().get(name).is_some_and(|state| ["idle", "mixed", "allocated"].contains(&&**state))
        });
    }

    /// Ends the controller, which saves its state.
    pub(crate) fn stop_controller(&self) {
        self.end("slurmctld", "TERM");
    }

    /// Waits for the nodes too: for some seconds the new controller knows nothing of them.
    pub(crate) fn start_controller(&self) {
        self.spawn("slurmctld", "slurmctld", "-D");
        self.wait("the controller knows its nodes", || {
            let states = self.states();
            !states.is_empty() && states.values().all(|state| !state.starts_with("unknown"))
        });
    }

    pub(crate) fn restart_controller(&self) {
        self.stop_controller();
        self.start_controller();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn fill(&self, text: &str) -> String {
        text.replace("FOLDER", self.folder.path().to_str().unwrap())
    }

    fn daemons(&self) -> MutexGuard<'_, BTreeMap<String, Child>> {
        self.daemons.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn spawn(&self, name: &str, program: &str, arguments: &str) {
        let mut command = self.command(program);
        let errors = fs_err::File::create(self.path(&format!("{name}.out"))).unwrap().into_file();
        command.args(self.fill(arguments).split_whitespace());
        command.env("SLURM_CONF", self.path(&format!("{name}.conf")));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        let child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
        self.daemons().insert(name.into(), child);
    }

    fn end(&self, name: &str, how: &str) {
        let mut daemon = self.daemons().remove(name).expect("no such daemon is running");
        signal(how, &[daemon.id()].into());
        daemon.wait().unwrap();
    }

    /// Waits, and panics with what the daemons wrote if one of them ends or too much time goes by.
    fn wait(&self, what: &str, mut is_done: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !is_done() {
            let has_ended = |daemon: &mut Child| daemon.try_wait().unwrap().is_some();
            if self.daemons().values_mut().any(has_ended) || begin.elapsed() > Duration::from_secs(30) {
                let mut report = format!("waited until {what}; nodes: {:?}", self.states());
                for name in self.daemons().keys() {
                    let text = fs_err::read_to_string(self.path(&format!("{name}.out"))).unwrap_or_default();
                    report += &format!("\n--- {name}\n{text}");
                }
                panic!("{report}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The processes with this `SLURM_CONF`, and their children: Slurm hands the variable on. Each daemon has its own,
    /// clients have `slurm.conf`; with `""`, those of the whole cluster.
    pub(crate) fn processes_of(&self, conf: &str) -> BTreeSet<u32> {
        let mark = format!("SLURM_CONF={}", self.path(conf).display());
        let read = |name: &OsStr| {
            let id: u32 = name.to_str()?.parse().ok()?;
            let status = fs_err::read_to_string(format!("/proc/{id}/status")).ok()?;
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
            let parent: u32 = parent.trim().parse().ok()?;
            // Empty once it has ended.
            let environment = fs_err::read(format!("/proc/{id}/environ")).unwrap_or_default();
            Some((id, parent, String::from_utf8_lossy(&environment).contains(&mark)))
        };
        let names = fs_err::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
        let all: Vec<_> = names.filter_map(|name| read(&name)).collect();
        let mut found: BTreeSet<u32> = all.iter().filter(|it| it.2).map(|it| it.0).collect();
        while let Some(child) = all.iter().find(|it| found.contains(&it.1) && !found.contains(&it.0)) {
            found.insert(child.0);
        }
        found
    }

    /// Stops them all first, so that none starts another one meanwhile.
    fn kill_processes(&self, conf: &str) {
        let mut stopped = BTreeSet::new();
        let mut found = self.processes_of(conf);
        while !found.is_subset(&stopped) {
            signal("STOP", &found);
            stopped.append(&mut found);
            found = self.processes_of(conf);
        }
        signal("KILL", &stopped);
        // Its executable is known for as long as a process lives.
        let lives = |id: &u32| fs_err::read_link(format!("/proc/{id}/exe")).is_ok();
        while stopped.iter().any(lives) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill_processes("");
        for daemon in self.daemons().values_mut() {
            let _ = daemon.wait();
        }
    }
}

fn signal(name: &str, ids: &BTreeSet<u32>) {
    // Some may have ended by themselves.
    let ids = ids.iter().map(ToString::to_string);
    let _ = Command::new("kill").args(["-s", name]).args(ids).stderr(Stdio::null()).status();
}

fn pairs(lines: &str) -> Vec<(String, String)> {
    let words = lines.lines().filter_map(|line| line.trim().split_once(' '));
    words.map(|(first, second)| (first.into(), second.trim().into())).collect()
}

/// Daemons are in `/usr/sbin`, which not every `PATH` has.
fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Below the ports that the kernel gives to clients, and 16 for each process before the next one's begin, so that tests in
/// several processes don't find the same.
fn free_port() -> u16 {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 1_250 * 16) as u16;
    let mut ports = (0..1000).map(|_| first + TRIED.fetch_add(1, Ordering::Relaxed));
    ports.find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok()).expect("1000 ports in a row are taken")
}
