"""What deploy.sh can be asked for, each as a story of its parts."""

import datetime
import shutil

from . import configure, keys, leftovers, needs, pool, smoke, ssh, tunnel, versions
from .cloud import Cloud
from .locking import only_run
from .outcome import Stopped
from .progress import Progress, say
from .settings import keep, make_folder, write_private
from .terraform import Terraform, losses, summary

# There while an apply is under way, with what leftovers.py needs to know of it: one that is still there is of a run that was killed.
APPLYING = "applying.json"
HOSTS = {
    "monitoring": "module.monitoring.digitalocean_droplet.host",
    "autoscaler": "module.autoscaler.digitalocean_droplet.host",
}


class Run:
    """One run of one environment, holding its lock; without a lock it only looks."""

    def __init__(self, settings, environment, lock):
        self.settings, self.environment, self.lock = settings, environment, lock
        self.progress = Progress()
        self.terraform = Terraform(settings, environment, lock)
        self.ssh = ssh.Ssh(settings)

    def made(self):
        """Terraform's outputs of an environment that is there, once it was made to its end."""
        outputs = {}
        if self.terraform.state.exists():
            # The copy of the root is changed by who has the lock alone.
            if self.lock is not None:
                self.terraform.prepare()
            outputs = self.terraform.outputs()
        if not {"hosts", "pool", "service"} <= set(outputs):
            name = self.settings.environment
            raise Stopped("plan-failed", f"{name} was never made to its end (looked for in {self.settings.folder}): make deploy ENV={name}")
        return outputs

    def provision(self, *, replaced=None):
        """Plan and apply; Terraform's outputs."""
        terraform, folder = self.terraform, self.settings.folder
        with self.progress.part("providers"):
            terraform.prepare()
        self.remove_leftovers("plan-failed")
        with self.progress.part("plan"):
            terraform.given(versions.wanted(folder))
            changes = terraform.plan(*([f"-replace={replaced}"] if replaced else []))
            say(f"    {summary(changes)}")
            self.refuse_losses([(address, verb) for address, verb in losses(changes) if address != replaced])
        if changes:
            versions.forget_green(folder)
            with self.progress.part("apply"):
                self.note_apply(changes)
                terraform.apply()
        (folder / APPLYING).unlink(missing_ok=True)
        return terraform.outputs()

    def note_apply(self, changes):
        """That an apply begins, for the run after this one, should this one be killed. What began earlier and never ended counts on."""
        path = self.settings.folder / APPLYING
        apply = leftovers.begun(Cloud(self.settings, "plan-failed"), changes, datetime.datetime.now(datetime.timezone.utc))
        earlier = leftovers.read(path)
        if earlier:
            apply = apply._replace(since=min(apply.since, earlier.since))
        write_private(path, leftovers.written(apply))

    def remove_leftovers(self, way):
        apply = leftovers.read(self.settings.folder / APPLYING)
        if apply:
            with self.progress.part("what a run that was killed has left"):
                leftovers.remove(Cloud(self.settings, way), self.settings, self.terraform.resources(), apply, say)

    def refuse_losses(self, found):
        if found and not self.settings.may_destroy:
            lines = "\n".join(f"  - {verb} {address}" for address, verb in found)
            raise Stopped("plan-would-destroy", f"the plan would\n{lines}\nNothing was changed. If that is meant: --may-destroy")

    def configure(self, outputs):
        settings, hosts = self.settings, outputs["hosts"]
        write_private(settings.folder / "ssh_config", ssh.config(settings, hosts))
        with self.progress.part("ssh to all hosts"):
            self.ssh.wait(hosts)
        with self.progress.part("settings and secrets of database and monitoring"):
            self.play(outputs, "hosts")
        with self.progress.part("the database's ring"):
            pool.wait_for_ring(self.ssh, hosts)
        with self.progress.part("settings and secrets of the autoscaler"):
            if settings.cloud == "local":
                tunnel.begin(settings, self.ssh)
            self.play(outputs, "autoscaler")

    def play(self, outputs, playbook):
        configure.play(self.settings, outputs, playbook, self.environment, self.terraform.pass_fds)

    def serve(self, outputs):
        wanted = outputs["pool"]
        with self.progress.part("the pool"):
            found = pool.wait_for_pool(self.ssh, wanted["name"], wanted["min"])
        old = pool.outdated(found, wanted["image"])
        if old:
            with self.progress.part(f"rollout of {len(old)} members to image {wanted['image']}"):
                pool.roll_out(self.ssh, wanted["name"], wanted["image"])
                found = pool.wait_for_pool(self.ssh, wanted["name"], wanted["min"])
        with self.progress.part("smoke test"):
            smoke_test(self.settings, outputs["service"], pool.ensure_key(self.ssh, self.settings, found))

    def settled(self):
        with self.progress.part("second plan"):
            changes = self.terraform.plan()
            if changes:
                lines = "\n".join(f"  - {change.verb} {change.address}" for change in changes)
                raise Stopped("plan-not-empty", f"a second plan would still\n{lines}")


def deploy(settings, environment):
    needs.check(settings, environment)
    make_folder(settings)
    with only_run(settings.folder) as lock:
        run = Run(settings, environment, lock)
        keep(settings)
        with run.progress.part("keys and passwords"):
            made = keys.make(settings.secrets)
            say(f"    {'made ' + ', '.join(made) if made else 'all there'}, in {settings.secrets}")
        try:
            finish(run, run.provision())
        finally:
            say(run.progress.table())


def finish(run, outputs):
    run.configure(outputs)
    run.serve(outputs)
    run.settled()
    settings = run.settings
    versions.note_green(settings.folder, outputs["images"])
    cost = outputs["monthly_usd"]
    say(f"{outputs['service']['url']} serves. A key: {settings.secrets / 'api-key'}. A month costs ${cost['least']:.0f} to ${cost['most']:.0f}.")


def replace(settings, environment, name):
    """A new host of the newest image in the place of one, which keeps its volume."""
    needs.check(settings, environment)
    make_folder(settings)
    with only_run(settings.folder) as lock:
        run = Run(settings, environment, lock)
        try:
            if name in HOSTS:
                run.made()
                finish(run, run.provision(replaced=HOSTS[name]))
            else:
                replace_database_host(run, name)
        finally:
            say(run.progress.table())


def replace_database_host(run, name):
    """Only while the ring is whole, and it is whole again before this ends."""
    outputs = run.made()
    if outputs["hosts"].get(name, {}).get("role") != "db":
        raise Stopped("plan-failed", f"there is no host {name}; there are {', '.join(sorted(outputs['hosts']))}")
    write_private(run.settings.folder / "ssh_config", ssh.config(run.settings, outputs["hosts"]))
    with run.progress.part(f"the ring is whole before {name} goes"):
        pool.wait_for_ring(run.ssh, outputs["hosts"])
    with run.progress.part(f"{name} writes down what it holds"):
        code, _, error = run.ssh.run(name, "systemctl stop tidepool-db.service cassandra.service", secs=300)
        if code != 0:
            raise Stopped("hosts-unreachable", f"{name} could not be stopped in order: {error}")
    finish(run, run.provision(replaced=f'module.database.digitalocean_droplet.host["{name}"]'))


def upgrade_database(settings, environment):
    """One host after the other, each only while the ring is whole."""
    needs.check(settings, environment)
    make_folder(settings)
    with only_run(settings.folder) as lock:
        run = Run(settings, environment, lock)
        names = sorted(name for name, host in run.made()["hosts"].items() if host["role"] == "db")
        try:
            for name in names:
                replace_database_host(run, name)
        finally:
            say(run.progress.table())


def promote(settings, source, environment):
    """The image versions that `source` runs, into the environment of `settings`."""
    found = versions.green(source.folder, source.environment)
    needs.check(source, environment)
    with only_run(source.folder) as lock:
        run = Run(source, environment, lock)
        with run.progress.part(f"whether {source.environment} is green"):
            run.terraform.prepare()
            # What it runs, and not what was made since.
            run.terraform.given(found)
            changes = run.terraform.plan()
            if changes:
                raise Stopped("promotion-refused", f"{source.environment} is not as it is written: {summary(changes)}. make deploy ENV={source.environment}")
            look_at(run)
    say(f"    promoting {', '.join(f'{image} {version}' for image, version in sorted(found.items()))}")
    make_folder(settings)
    versions.want(settings.folder, found)
    deploy(settings, environment)


def look_at(run):
    """Raises unless the pool serves, all of it of one image, and the smoke test passes."""
    outputs = run.made()
    wanted = outputs["pool"]
    name = run.settings.environment
    found = pool.status(run.ssh, wanted["name"])
    if found is None or len(pool.serving(found)) < wanted["min"] or pool.outdated(found, wanted["image"]):
        raise Stopped("promotion-refused", f"the pool of {name} is not as it should be: {pool.describe(found)}")
    try:
        smoke_test(run.settings, outputs["service"], pool.ensure_key(run.ssh, run.settings, found), secs=60)
    except Stopped as stopped:
        raise Stopped("promotion-refused", f"{name} does not pass its smoke test: {stopped.message}") from stopped


def smoke_test(settings, service, key, secs=smoke.SECS_MAX):
    """As a client who asks the name servers, and trusts the authorities, that the settings or a local cloud name."""
    name_server, authority = settings.name_server, settings.authority
    if settings.cloud == "local":
        of_cloud = Cloud(settings, "smoke-test-failed").surroundings()
        name_server, authority = name_server or of_cloud[0], authority or of_cloud[1]
    smoke.test(service, key, name_server, authority, secs)


def smoke_alone(settings, environment):
    needs.check(settings, environment)
    outputs = Run(settings, environment, None).made()
    path = settings.secrets / "api-key"
    if not path.exists():
        raise Stopped("smoke-test-failed", f"there is no key in {path}: a deploy that comes to its end makes one: make deploy ENV={settings.environment}")
    smoke_test(settings, outputs["service"], path.read_text(encoding="ascii").strip(), secs=60)
    say(f"{outputs['service']['url']} serves")


def destroy(settings, environment):
    """Everything but the volumes, and these too if so asked. What the autoscaler has made goes first: it is in the VPC."""
    needs.check(settings, environment, images=False)
    make_folder(settings)
    with only_run(settings.folder) as lock:
        run = Run(settings, environment, lock)
        cloud, terraform = Cloud(settings, "destroy-incomplete"), run.terraform
        versions.forget_green(settings.folder)
        keys.make(settings.secrets)
        with run.progress.part("providers"):
            terraform.prepare()
            resources = terraform.resources()
            outputs = terraform.outputs()
            terraform.given({}, terraform.images_of_no_account(outputs.get("region", "nyc3")))
        run.remove_leftovers("destroy-incomplete")
        with run.progress.part("the autoscaler and its members"):
            end_pool(run, cloud, outputs, [resource.id for resource in resources if resource.kind == "digitalocean_vpc"])
        with run.progress.part("what Terraform made"):
            others = [resource.address for resource in resources if resource.kind != "digitalocean_volume"]
            if others:
                terraform.destroy(dict.fromkeys(others))
        (settings.folder / APPLYING).unlink(missing_ok=True)
        volumes = [resource for resource in resources if resource.kind == "digitalocean_volume"]
        if settings.remove_volumes:
            with run.progress.part("volumes"):
                remove_volumes(cloud, terraform, volumes)
        say(run.progress.table())
        report_kept(settings, cloud, volumes)
    if settings.remove_volumes:
        # With the documents gone, nobody needs their passwords.
        shutil.rmtree(settings.folder)


def end_pool(run, cloud, outputs, vpcs):
    tunnel.end(run.settings.folder)
    name = outputs.get("pool", {}).get("name")
    if name is None:
        return
    host = outputs.get("hosts", {}).get("autoscaler")
    if host and (run.settings.folder / "ssh_config").exists() and not pool.stop_autoscaler(run.ssh):
        # It must not make members while they are removed, whether it answers or not.
        say("    the autoscaler's host does not answer: it is removed first")
        cloud.call("DELETE", f"/v2/droplets/{host['id']}")
    removed = sum(cloud.remove_droplets(f"pool:{name}", vpc) for vpc in vpcs)
    say(f"    removed {removed} members")


def remove_volumes(cloud, terraform, volumes):
    """Those that the state has, by id: a name says little about whose a volume is. Each is forgotten once it is gone, so that a run that
    is interrupted goes on."""
    for volume in volumes:
        cloud.call("DELETE", f"/v2/volumes/{volume.id}")
        terraform.forget(volume.address)


def report_kept(settings, cloud, resources):
    of_name = [volume for volume in cloud.list("/v2/volumes", "volumes") if leftovers.ours(volume["name"], f"tidepool-{settings.environment}")]
    known = {resource.id for resource in resources}
    volumes = [volume for volume in of_name if volume["id"] in known]
    strangers = [volume for volume in of_name if volume["id"] not in known]
    snapshots = [found["name"] for found in cloud.list("/v2/snapshots?resource_type=droplet", "snapshots") if found["name"].startswith("tidepool-")]
    if strangers:
        say(f"left alone: {', '.join(volume['name'] for volume in strangers)}, volumes that the state does not know")
    if volumes:
        gib = sum(volume["size_gigabytes"] for volume in volumes)
        say(f"kept: {len(volumes)} volumes with {gib} GiB ({', '.join(volume['name'] for volume in volumes)}), and their passwords in {settings.secrets};")
        say(f"      the next deploy uses them again. To remove them too: make destroy ENV={settings.environment} VOLUMES=remove")
    if snapshots:
        say(f"kept: {len(snapshots)} snapshots, the images of all environments: {', '.join(sorted(snapshots))}")
    if not of_name and not snapshots:
        say("nothing is kept")
