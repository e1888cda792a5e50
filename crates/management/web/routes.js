// Addresses, as RabbitMQ's pages have them, and the pages behind.

import { channelPage } from "./pages/channel.js";
import { channelsPage } from "./pages/channels.js";
import { clusterPage } from "./pages/cluster.js";
import { connectionPage } from "./pages/connection.js";
import { connectionsPage } from "./pages/connections.js";
import { exchangePage } from "./pages/exchange.js";
import { exchangesPage } from "./pages/exchanges.js";
import { limitsPage } from "./pages/limits.js";
import { nodePage } from "./pages/node.js";
import { overviewPage } from "./pages/overview.js";
import { policiesPage } from "./pages/policies.js";
import { queuePage } from "./pages/queue.js";
import { queuesPage } from "./pages/queues.js";
import { shovelsPage } from "./pages/shovels.js";
import { userPage } from "./pages/user.js";
import { usersPage } from "./pages/users.js";
import { vhostPage } from "./pages/vhost.js";
import { vhostsPage } from "./pages/vhosts.js";

export const ROUTES = {
  "": overviewPage,
  connections: connectionsPage,
  "connections/*": connectionPage,
  channels: channelsPage,
  "channels/*": channelPage,
  exchanges: exchangesPage,
  "exchanges/*/*": exchangePage,
  queues: queuesPage,
  "queues/*/*": queuePage,
  users: usersPage,
  "users/*": userPage,
  vhosts: vhostsPage,
  "vhosts/*": vhostPage,
  policies: policiesPage,
  limits: limitsPage,
  shovels: shovelsPage,
  cluster: clusterPage,
  "nodes/*": nodePage,
};
