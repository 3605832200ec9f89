"""Database hosts of the local cloud become one ring by themselves, and stay one: what is acknowledged is there, whoever loses power.

`check.py ENDPOINT WORK STATE [--short] [--made MANIFESTS] [--keep] [--from N]`: a running local cloud with systemd hosts, and a folder with ca.pem,
node.pem, node.key, `key` for ssh and variables.json for the playbooks; the cloud's own folder. Makes the images, unless there are manifests of
them, then takes its steps, each with a number and a time; `--from N` goes on with the hosts that an earlier run left. Ends with 1 when a step
failed.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time
import urllib.error

import images
from api_steps import (
    a_document_of_one_api_is_read_at_the_other,
    the_api_is_back_with_its_documents,
    the_api_serves_on_both_ports,
    the_api_stops_by_draining,
)
from fault_steps import (
    a_certificate_for_servers_alone_is_refused,
    a_copy_of_a_member_stays_out,
    a_fourth_joins_without_losing_a_read,
    a_member_of_a_known_rack_joins_where_racks_are_fewer_than_copies,
    a_power_cut_of_all_loses_nothing,
    a_power_cut_of_one_loses_nothing,
    a_reused_address_stays_out,
    once_the_dead_member_is_removed_it_joins_by_itself,
)
from host_steps import (
    a_second_run_changes_nothing,
    clones_differ_in_all_that_makes_a_host,
    exposure_is_what_the_readme_says,
    from_a_neighbour_only_the_intended_ports_answer,
    nothing_of_the_build_is_in_the_snapshot_or_on_a_host,
)
from hosts import Cloud
from ring_steps import (
    logins_are_on_every_host,
    plain_text_is_refused,
    rows_written_at_quorum_are_read_at_one_from_each,
    seeds_are_members,
    the_default_superuser_cannot_log_in,
    the_reader_reads_and_no_more,
    three_made_at_once_form_one_ring,
)
from trial import SIZE, Skipped, Trial

STEPS = (
    three_made_at_once_form_one_ring,
    clones_differ_in_all_that_makes_a_host,
    nothing_of_the_build_is_in_the_snapshot_or_on_a_host,
    logins_are_on_every_host,
    seeds_are_members,
    the_default_superuser_cannot_log_in,
    plain_text_is_refused,
    rows_written_at_quorum_are_read_at_one_from_each,
    the_reader_reads_and_no_more,
    from_a_neighbour_only_the_intended_ports_answer,
    exposure_is_what_the_readme_says,
    a_second_run_changes_nothing,
    the_api_serves_on_both_ports,
    a_document_of_one_api_is_read_at_the_other,
    the_api_stops_by_draining,
    a_power_cut_of_one_loses_nothing,
    a_power_cut_of_all_loses_nothing,
    the_api_is_back_with_its_documents,
    a_fourth_joins_without_losing_a_read,
    the_default_superuser_cannot_log_in,
    a_reused_address_stays_out,
    once_the_dead_member_is_removed_it_joins_by_itself,
    a_certificate_for_servers_alone_is_refused,
    a_copy_of_a_member_stays_out,
    a_member_of_a_known_rack_joins_where_racks_are_fewer_than_copies,
)
SHORT = (
    three_made_at_once_form_one_ring,
    clones_differ_in_all_that_makes_a_host,
    nothing_of_the_build_is_in_the_snapshot_or_on_a_host,
    the_default_superuser_cannot_log_in,
    plain_text_is_refused,
    rows_written_at_quorum_are_read_at_one_from_each,
    from_a_neighbour_only_the_intended_ports_answer,
    a_power_cut_of_one_loses_nothing,
)
FAILURES = (
    AssertionError, OSError, urllib.error.URLError, json.JSONDecodeError, KeyError, IndexError, StopIteration, subprocess.TimeoutExpired
)  # fmt: skip


def prepare(trial, given):
    """The images, and the hosts that there are already."""
    names = ["db"]
    if not given.short and (given.made or images.has_packages(trial.variables)):
        names.append("api")
    if given.first == 1:
        trial.clear()
    for name in names:
        trial.images[name] = images.find_or_build(trial.cloud, name, trial.work, given.made)
    if given.first > 1:
        trial.load()


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("endpoint")
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("state", type=pathlib.Path)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--made", type=pathlib.Path)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--from", dest="first", type=int, default=1)
    given = parser.parse_args(arguments)
    steps = SHORT if given.short else STEPS
    trial = Trial(Cloud(given.endpoint, given.work / "key", SIZE), given.work, given.state)
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    began = time.monotonic()
    try:
        prepare(trial, given)
    except FAILURES as failure:
        print(f"FAILED: the images and hosts: {type(failure).__name__}: {str(failure)[-4000:]}", flush=True)
        counts["failed"] = 1
    else:
        print(f"images and hosts are there after {time.monotonic() - began:.0f} s", flush=True)
        take(trial, steps, given.first, counts)
        if not given.keep:
            trial.clear()
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped", flush=True)
    return int(counts["failed"] > 0)


def take(trial, steps, first, counts):
    """Steps in their order, up to the first that fails: each needs those before it."""
    for number, step in enumerate(steps, 1):
        if number < first:
            continue
        name = f"{number} {step.__name__.replace('_', ' ')}"
        began = time.monotonic()
        try:
            step(trial)
        except Skipped as reason:
            print(f"SKIPPED: {name}: {reason}", flush=True)
            counts["skipped"] += 1
            continue
        except FAILURES as failure:
            print(f"FAILED: {name} ({time.monotonic() - began:.0f} s): {type(failure).__name__}: {str(failure)[-2000:]}", flush=True)
            counts["failed"] += 1
            counts["skipped"] += len(steps) - number
            return
        trial.save()
        print(f"passed: {name} ({time.monotonic() - began:.0f} s)", flush=True)
        counts["passed"] += 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
