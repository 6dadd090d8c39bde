"""Retraining on request, for Airflow 3.1 and later: one run of ``train_model`` for each request of streamdrift.

::

    retraining-requests ──▶ asset ──▶ streamdrift_requests ──▶ train_model, run id = the request's id
                                                                 approval, if the request wants one ──▶ train

A request that is delivered twice finds its run there already, and is skipped. The last task of ``train_model`` is
yours: it trains on the labels of ``data_window`` and deploys the model under a new ``model_version``; streamdrift sees
the version in the traffic, and closes the request.

Needs apache-airflow-providers-apache-kafka, apache-airflow-providers-common-messaging, a connection ``kafka_default``
with a ``group.id`` of its own and ``"auto.offset.reset": "earliest"``, and ``streamdrift_requests.py`` among the
plugins.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow.providers.common.messaging.triggers.msg_queue import MessageQueueTrigger
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.providers.standard.sensors.date_time import DateTimeSensor
from airflow.sdk import Asset, AssetWatcher, Param, dag, get_current_context, task

log = logging.getLogger(__name__)

REQUESTS = Asset(
    "streamdrift_retraining_requests",
    watchers=[
        AssetWatcher(
            name="kafka",
            trigger=MessageQueueTrigger(
                scheme="kafka",
                topics=["retraining-requests"],
                apply_function="streamdrift_requests.requested",
                kafka_config_id="kafka_default",
            ),
        )
    ],
)


@dag(schedule=[REQUESTS], catchup=False, tags=["streamdrift"])
def streamdrift_requests() -> None:
    """Start a training for each request; several may have come since the last run."""

    @task
    def trainings() -> list[dict[str, Any]]:
        """The runs to start, one for each request."""
        events = get_current_context()["triggering_asset_events"][REQUESTS]
        requests = {event.extra["payload"]["request_id"]: event.extra["payload"] for event in events}
        return [
            {"trigger_run_id": f"streamdrift-{request_id}", "conf": {"request": request}}
            for request_id, request in requests.items()
        ]

    TriggerDagRunOperator.partial(
        task_id="start", trigger_dag_id="train_model", skip_when_already_exists=True
    ).expand_kwargs(trainings())


@dag(schedule=None, max_active_runs=4, params={"request": Param(type="object")}, tags=["streamdrift"])
def train_model() -> None:
    """Train a model anew, once it may begin and, where the request wants it, once a person agrees."""
    due = DateTimeSensor(
        task_id="due", target_time="{{ params.request.not_before }}", mode="reschedule", poke_interval=60
    )

    @task.branch
    def decide() -> str:
        """Whether a person is asked."""
        request = get_current_context()["params"]["request"]
        return "approve" if request["requires_approval"] else "train"

    approve = ApprovalOperator(
        task_id="approve",
        subject="Train {{ params.request.model_id }} anew?",
        body="{{ params.request.reason }}. {{ params.request.labels.fresh }} labels are new.",
    )

    @task(trigger_rule="none_failed_min_one_success")
    def train() -> None:
        """Put your training here."""
        request = get_current_context()["params"]["request"]
        log.info("train %s on the labels of %s", request["model_id"], request["data_window"])

    decision, training = decide(), train()
    due >> decision >> [approve, training]
    approve >> training


streamdrift_requests()
train_model()
