"""What both clients are made of."""

from dataclasses import dataclass, replace
from typing import Self

from lakeport.client.cache import Cache
from lakeport.client.calls import Context
from lakeport.client.config import Auth, Config, Token, load
from lakeport.client.errors import ConfigError
from lakeport.client.recording import Recorder
from lakeport.client.retry import Retry


@dataclass(frozen=True, slots=True)
class Setup:
    """A client's settings, apart from its connections."""

    config: Config
    context: Context
    timeout: float
    connect_timeout: float
    max_connections: int
    cache_ttl: float

    @classmethod
    def of(
        cls,
        host: str | None,
        token: Token | None,
        *,
        profile: str | None,
        timeout: float,
        connect_timeout: float,
        retry: Retry | None,
        cache_ttl: float,
        validate: bool,
        log: Recorder | None,
        max_connections: int,
    ) -> Self:
        """Raises ConfigError that names the argument, variable or profile."""
        for name, seconds in (("timeout", timeout), ("connect_timeout", connect_timeout)):
            if not seconds > 0:
                raise ConfigError(f"{name}={seconds}: expected seconds, more than 0.")
        if not cache_ttl >= 0:
            raise ConfigError(f"cache_ttl={cache_ttl}: expected seconds, 0 or more.")
        if max_connections < 1:
            raise ConfigError(f"max_connections={max_connections}: expected 1 or more.")
        config = load(host, token, profile)
        context = Context(config.host, retry or Retry(), Cache(cache_ttl), validate, log)
        return cls(config, context, timeout, connect_timeout, max_connections, cache_ttl)

    def signed_by(self, token: Token) -> Self:
        """The same for another caller, who may see other things: nothing learned goes along."""
        config = Config(self.config.host, Auth.of(token))
        return replace(
            self, config=config, context=replace(self.context, cache=Cache(self.cache_ttl))
        )
