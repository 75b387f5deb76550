// Starts GraphiQL on /graphql. Everything it needs is served from here: it works offline and under a strict
// Content-Security-Policy. Headers (the bearer token of a session) are kept for the life of the page only.
"use strict";

const DEFAULT_QUERY = `# Guerdon: loyalty points on a signed, append-only ledger.
#
# What is public needs no session: run this.
# Everything else: sessionChallenge, sign it, sessionOpen, and put the token into the Headers tab below:
#   { "Authorization": "Bearer …" }

query Overview {
  ledger {
    origin
    name
    size
    lastTime
    checkpoint {
      root
      note
    }
  }
  assets(first: 10) {
    nodes {
      code
      name
      issuerId
      supply {
        issued
        spent
        expired
        circulating
      }
      program {
        version
        bands {
          from
          points
          per
        }
        roundAmount
        roundPoints
      }
    }
  }
}
`;

// Subscriptions go over a WebSocket, which is given what stands in the Headers tab with its first message.
const socket = new URL("/graphql", location.href);
socket.protocol = socket.protocol.replace("http", "ws");
const fetcher = GraphiQL.createFetcher({ url: "/graphql", subscriptionUrl: socket.href });

function Console() {
  const [query, setQuery] = React.useState(DEFAULT_QUERY);
  const explorer = GraphiQLPluginExplorer.useExplorerPlugin({ query, onEdit: setQuery });
  return React.createElement(GraphiQL, {
    fetcher,
    query,
    onEditQuery: setQuery,
    defaultQuery: DEFAULT_QUERY,
    defaultEditorToolsVisibility: "headers",
    isHeadersEditorEnabled: true,
    shouldPersistHeaders: false,
    plugins: [explorer],
  });
}

ReactDOM.render(React.createElement(Console), document.getElementById("graphiql"));
