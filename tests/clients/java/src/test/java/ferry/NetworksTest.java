package ferry;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.dockerjava.api.exception.NotFoundException;
import com.github.dockerjava.api.model.HostConfig;
import com.github.dockerjava.api.model.Network;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** The networks every engine has, and those users make. */
class NetworksTest extends Suite {
    @Test
    void defaultNetworksAreListed() {
        List<String> names = docker.listNetworksCmd().exec().stream().map(Network::getName).toList();
        assertTrue(names.containsAll(List.of("bridge", "host", "none")), names.toString());
        List<Network> hosts = docker.listNetworksCmd().withFilter("driver", List.of("host")).exec();
        assertEquals(List.of("host"), hosts.stream().map(Network::getName).toList());
        List<Network> bridges = docker.listNetworksCmd().withNameFilter("bridge").exec();
        assertTrue(bridges.stream().anyMatch(network -> network.getDriver().equals("bridge")));
    }

    @Test
    void bridgeShowsItsContainers() {
        String id = start(container("sleep", "60"));
        var bridge = docker.inspectNetworkCmd().withNetworkId("bridge").exec();
        assertEquals("local", bridge.getScope());
        assertEquals("true", bridge.getOptions().get("com.docker.network.bridge.default_bridge"));
        assertTrue(bridge.getIpam().getConfig().get(0).getSubnet().contains("/"));
        String address = inspect(id).getNetworkSettings().getNetworks().get("bridge").getIpAddress();
        assertTrue(bridge.getContainers().get(id).getIpv4Address().startsWith(address + "/"));
        assertEquals(bridge.getId(), docker.inspectNetworkCmd().withNetworkId(bridge.getId()).exec().getId());
    }

    @Test
    void containersReachEachOther() {
        String server = start(shell("mkdir /w; echo hello > /w/index.html; exec httpd -f -p 80 -h /w"));
        String address = inspect(server).getNetworkSettings().getNetworks().get("bridge").getIpAddress();
        assertEquals("hello\n", output(shell("for i in 1 2 3 4 5; do wget -q -O - http://" + address + "/ && exit; sleep 0.3; done; exit 1")));
    }

    @Test
    void withoutANetwork() {
        String id = run(shell("ls /sys/class/net").withHostConfig(HostConfig.newHostConfig().withNetworkMode("none")), 0);
        assertEquals("lo\n", logs(id).out());
        assertEquals(java.util.Set.of("none"), inspect(id).getNetworkSettings().getNetworks().keySet());
    }

    @Test
    void absentNetwork() {
        refused(404, "network absent not found", () -> docker.inspectNetworkCmd().withNetworkId("absent").exec());
    }

    @Test
    void ownNetworkResolvesNames() {
        String name = name("network");
        String network = unlessMissing(() -> docker.createNetworkCmd().withName(name).withLabels(Map.of(LABEL, "own")).exec()).getId();
        later(() -> docker.removeNetworkCmd(network).exec());
        assertEquals("own", docker.inspectNetworkCmd().withNetworkId(name).exec().getLabels().get(LABEL));

        String server = name("server");
        start(shell("mkdir /w; echo by name > /w/index.html; exec httpd -f -p 80 -h /w")
                .withName(server)
                .withHostConfig(HostConfig.newHostConfig().withNetworkMode(name)));
        assertEquals("by name\n", output(shell("for i in 1 2 3 4 5; do wget -q -O - http://" + server + "/ && exit; sleep 0.3; done; exit 1")
                .withHostConfig(HostConfig.newHostConfig().withNetworkMode(name))));
    }

    @Test
    void connectAndDisconnect() {
        String name = name("network");
        String network = unlessMissing(() -> docker.createNetworkCmd().withName(name).exec()).getId();
        later(() -> docker.removeNetworkCmd(network).exec());
        String id = start(container("sleep", "60"));
        docker.connectToNetworkCmd().withNetworkId(network).withContainerId(id).exec();
        assertTrue(inspect(id).getNetworkSettings().getNetworks().containsKey(name));
        docker.disconnectFromNetworkCmd().withNetworkId(network).withContainerId(id).exec();
        assertTrue(!inspect(id).getNetworkSettings().getNetworks().containsKey(name));
        docker.removeNetworkCmd(network).exec();
        assertThrows(NotFoundException.class, () -> docker.inspectNetworkCmd().withNetworkId(network).exec());
    }
}
