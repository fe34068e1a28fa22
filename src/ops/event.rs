//! What happens on the way from a recipe to profiles, for whoever watches.

use crate::mixed_precision::MixedPrecisionReport;
use crate::quantization::QuantizationChoice;
use crate::toolchain::Progress;

/// Something that happened while a recipe was resolved or its jobs ran.
#[derive(Clone, Debug)]
pub enum BuildEvent {
    /// Another process builds into the same store; we wait for it.
    WaitingForStore,
    /// A graph's source is being fetched.
    Fetching {
        /// The graph.
        graph: String,
        /// How far it is.
        progress: Progress,
    },
    /// A graph's weights are being generated.
    Synthesizing {
        /// The graph.
        graph: String,
    },
    /// This many jobs must run.
    Starting {
        /// How many.
        jobs: usize,
    },
    /// A job runs.
    JobStarted {
        /// The job's title.
        title: String,
    },
    /// A job waits for a node of an executor.
    JobWaits {
        /// The job's title.
        title: String,
        /// The executor.
        executor: String,
        /// Why, in the engine's words.
        reason: String,
    },
    /// A node of an executor works on a job.
    JobOnNode {
        /// The job's title.
        title: String,
        /// The executor.
        executor: String,
        /// The node.
        node: String,
    },
    /// A job is at another stage.
    JobStage {
        /// The job's title.
        title: String,
        /// The worker's word for the stage.
        stage: String,
    },
    /// A job is done.
    JobFinished {
        /// The job's title.
        title: String,
        /// How long it took.
        total_ms: u64,
        /// The size of what came out.
        size_bytes: u64,
    },
    /// Something that ran is over; whoever asked for it says what came of it.
    JobEnded {
        /// Its title.
        title: String,
    },
    /// It was found which nodes of a graph must stay in FP32.
    MixedPrecision {
        /// The title of the search.
        title: String,
        /// What was found.
        report: Box<MixedPrecisionReport>,
    },
    /// It was found how a graph is quantized.
    Quantized {
        /// The title of the search.
        title: String,
        /// What was found.
        choice: Box<QuantizationChoice>,
    },
    /// Something the user should know.
    Warning {
        /// What.
        message: String,
    },
    /// A job failed; the others go on.
    JobFailed {
        /// The job's title.
        title: String,
        /// Why.
        message: String,
    },
}

/// Gets every event, from several threads.
pub type OnEvent<'a> = &'a (dyn Fn(BuildEvent) + Sync);
