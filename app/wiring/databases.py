"""The readers of the primary, and of a replica."""

from __future__ import annotations

from app.application.catalogue import Catalogue
from app.application.comparison import Comparisons
from app.application.model_statistics import ModelStatistics
from app.application.replica_routing import Reader, Readers, ReplicaStatistics
from app.application.statistics import Statistics
from app.infrastructure import export_store
from app.infrastructure.catalogue_store import PostgresCatalogueStore
from app.infrastructure.citus import is_distributed
from app.infrastructure.error_store import PostgresErrorStore
from app.infrastructure.export_store import PostgresPredictionExport
from app.infrastructure.postgres import pool
from app.infrastructure.postgres.database import Database
from app.infrastructure.prediction_list import PostgresPredictionList
from app.infrastructure.replica import StreamingReplica
from app.infrastructure.segment_memory import segment_memory
from app.infrastructure.statistics_store import PostgresStatisticsStore
from app.presentation.instruments import Meters
from app.wiring.pools import open_pool
from config import Config


def readers(database: Database, config: Config, meters: Meters) -> Readers:
    """Make the readers of the primary, and of a replica if DATABASE_READ_URL is set."""
    own = Statistics(_statistics_store(database), segment_memory())
    primary = _reader(database, own, config.database_url or "", config)
    if config.database_read_url is None:
        return Readers(primary)
    follower = open_pool(config.database_read_url, config)
    pool.attach(meters.pool("replica"), follower.engine)
    state = StreamingReplica(database, follower, config.max_replica_lag_s)
    statistics = ReplicaStatistics(_statistics_store(follower), segment_memory(), state)
    return Readers(primary, _reader(follower, statistics, config.database_read_url, config), state)


def _statistics_store(database: Database) -> PostgresStatisticsStore:
    return PostgresStatisticsStore(database.read, lambda: is_distributed(database))


def _reader(database: Database, statistics: Statistics, url: str, config: Config) -> Reader:
    names = PostgresCatalogueStore(database)
    return Reader(
        prediction_list=PostgresPredictionList(database, config.list_timeout_ms),
        statistics=statistics,
        comparisons=Comparisons(statistics),
        catalogue=Catalogue(names, statistics),
        model_statistics=ModelStatistics(names, statistics),
        error_groups=PostgresErrorStore(database, config.list_timeout_ms),
        # A pool of its own: an export holds a connection for long, and must not take one from writes or questions.
        export=PostgresPredictionExport(
            open_pool(url, config, export_store.SETTINGS, size=config.max_concurrent_exports)
        ),
    )
