"""Options of `alt-ray submit`. Knows nothing of Ray."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SubmitOptions:
    """Run a command as a job on a Ray cluster that you don't sit at, follow its log, and exit with its status.

    alt-ray submit [options] COMMAND [its options], with COMMAND label, encode, relabel, train, evaluate or tune. Its options are
    checked here before anything is sent. Those below may also stand behind the command, but for --address, which is the job's
    there. The code that you have here runs on the cluster (0.5 MB is sent), with the files that options name by relative paths.
    After a failure or a stop, submit the same again: it goes on. The first ctrl-C stops the job, which keeps what is finished;
    the second one leaves it alone.
    """

    address: str | None = None
    """Address of the cluster's dashboard, such as http://head:8265; none: RAY_API_SERVER_ADDRESS, or an http RAY_ADDRESS."""
    no_wait: bool = False
    """Don't follow the job: print its id on standard output, and exit once the cluster has it."""
    job_name: str | None = None
    """Beginning of the job's id, which gets an end of its own each time; none: alt-ray-COMMAND."""
    working_dir: str = "."
    """Folder that relative paths of files (labels, lists, --config) start from; such files travel with the job."""
    with_pocket: bool = False
    """Send the weights of the pocket model, too (13 MB): for a cluster where alt_ray itself is not installed."""
    stop_wait_s: int = 60
    """Seconds that Ray leaves a stopped job to keep what is finished, before it is killed."""
