"""The backend `azure:DEPLOYMENT`: chat completions on Azure, by the openai package, which knows its credentials.

From the environment: AZURE_OPENAI_ENDPOINT and OPENAI_API_VERSION; AZURE_OPENAI_API_KEY, or AZURE_OPENAI_AD_TOKEN, or
what the package azure-identity finds (a login, a managed identity) where that is installed.
"""

import importlib.util
import os
from typing import Any

import orjson

from pmem.backends.base import Unavailable
from pmem.backends.openai import OpenAIBackend, checked_address, header_setting
from pmem.backends.transport import ATTEMPT_TIMEOUT, Answer
from pmem.errors import BackendError

SCOPE = "https://cognitiveservices.azure.com/.default"


class AzureBackend(OpenAIBackend):
    """One deployment."""

    kind = "azure"

    def _addresses(self, given: tuple[str, ...]) -> list[str]:
        endpoint = given[0] if given else os.environ.get("AZURE_OPENAI_ENDPOINT", "")
        if not endpoint or not os.environ.get("OPENAI_API_VERSION"):
            raise BackendError(f"azure:{self.name} needs AZURE_OPENAI_ENDPOINT and OPENAI_API_VERSION to be set")
        if len(given) > 1:
            raise BackendError(f"azure:{self.name} takes one --base-url")
        return [checked_address(endpoint).rstrip("/")]

    def _credential(self) -> str:
        self._token = header_setting("AZURE_OPENAI_AD_TOKEN")
        key = self._token or header_setting("AZURE_OPENAI_API_KEY")
        if not key and not _identity_installed():
            raise BackendError(
                f"azure:{self.name} needs AZURE_OPENAI_API_KEY, AZURE_OPENAI_AD_TOKEN, or the package azure-identity"
            )
        return key

    @property
    def hosted(self) -> bool:
        """Azure's deployments have names of their users' choice: what one costs is not known by its name."""
        return False

    def _key_hint(self) -> str:
        return "AZURE_OPENAI_API_KEY or AZURE_OPENAI_AD_TOKEN"

    def sdk(self) -> Any:
        """The package's client for this endpoint."""
        return self._client(retries=4)

    def _client(self, *, retries: int) -> Any:
        from openai import AsyncAzureOpenAI

        provider = None
        if not self.key:
            from azure.identity.aio import DefaultAzureCredential, get_bearer_token_provider

            provider = get_bearer_token_provider(DefaultAzureCredential(), SCOPE)
        return AsyncAzureOpenAI(
            azure_endpoint=self.urls[0],
            azure_deployment=self.name,
            api_key=None if self._token or provider else self.key,
            azure_ad_token=self._token or None,
            azure_ad_token_provider=provider,
            max_retries=retries,
            timeout=self.timeout or ATTEMPT_TIMEOUT,
        )

    def _connect(self) -> Any:
        return _Package(self._client(retries=0), self.urls[0])


class _Package:
    """The openai package in the place of `Transport`: slower, but it renews tokens."""

    def __init__(self, client: Any, host: str) -> None:
        self._client, self._host = client, host

    async def post(self, _url: str, pieces: list[bytes]) -> Answer:
        import openai

        try:
            body = orjson.loads(b"".join(pieces))
            reply = (await self._client.chat.completions.with_raw_response.create(**body)).http_response
        except openai.APIStatusError as fault:
            return Answer(fault.response.status_code, fault.response.headers, fault.response.content)
        except openai.APITimeoutError:
            raise Unavailable(f"no answer from {self._host} in time", reached=False) from None
        except openai.APIConnectionError as fault:
            raise Unavailable(f"no connection to {self._host}: {fault.__cause__ or fault}", reached=False) from None
        return Answer(reply.status_code, reply.headers, reply.content)

    async def close(self) -> None:
        await self._client.close()


def _identity_installed() -> bool:
    try:
        return importlib.util.find_spec("azure.identity") is not None
    except ModuleNotFoundError:
        return False
