"""Builds everything, starts it, and stops it: the only module that knows all the others.

`run(settings)` is a whole server's life. `Application` is the same in parts, for tests that embed a
server in their own loop.
"""

import asyncio
import logging
import signal
import time
import uuid
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from lakeport.api.app import build_app
from lakeport.api.mlflow import mlflow_proxy
from lakeport.api.server import Server
from lakeport.auth.tokens import Tokens
from lakeport.control.aliases import AliasWatcher
from lakeport.control.endpoints import Endpoints
from lakeport.control.reconciler import Reconciler
from lakeport.control.validation import WishedEntity
from lakeport.errors import ApiError
from lakeport.home import Home
from lakeport.models.mlflow import Registry
from lakeport.models.sources import ModelSource, parse_source
from lakeport.runtimes.local.link import LocalConnector
from lakeport.runtimes.local.runtime import LocalRuntime
from lakeport.serving.deployment import QueueLimits
from lakeport.serving.invoke import Front
from lakeport.settings import Settings
from lakeport.stores.sql import SqlStore
from lakeport.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


def now_ms() -> int:
    return time.time_ns() // 1_000_000
