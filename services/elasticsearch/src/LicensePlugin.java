import java.util.List;
import java.util.function.Supplier;
import org.elasticsearch.client.internal.node.NodeClient;
import org.elasticsearch.cluster.metadata.IndexNameExpressionResolver;
import org.elasticsearch.cluster.node.DiscoveryNodes;
import org.elasticsearch.common.settings.ClusterSettings;
import org.elasticsearch.common.settings.IndexScopedSettings;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.common.settings.SettingsFilter;
import org.elasticsearch.plugins.ActionPlugin;
import org.elasticsearch.plugins.Plugin;
import org.elasticsearch.rest.BaseRestHandler;
import org.elasticsearch.rest.RestResponse;
import org.elasticsearch.rest.RestController;
import org.elasticsearch.rest.RestHandler;
import org.elasticsearch.rest.RestRequest;
import org.elasticsearch.rest.RestStatus;

/**
 * Answers {@code GET /_license} as a server with the basic licence does.
 *
 * <p>Metricbeat asks for it before it sends a document. The endpoint belongs to X-Pack, which is not on Maven Central.
 */
public final class LicensePlugin extends Plugin implements ActionPlugin {
    @Override
    public List<RestHandler> getRestHandlers(
            Settings settings,
            RestController controller,
            ClusterSettings clusterSettings,
            IndexScopedSettings indexSettings,
            SettingsFilter filter,
            IndexNameExpressionResolver resolver,
            Supplier<DiscoveryNodes> nodes) {
        return List.of(new LicenseHandler());
    }

    private static final class LicenseHandler extends BaseRestHandler {
        private static final String BASIC = "{\"license\":{\"status\":\"active\",\"type\":\"basic\"}}";

        @Override
        public String getName() {
            return "tidepool_license";
        }

        @Override
        public List<Route> routes() {
            return List.of(new Route(RestRequest.Method.GET, "/_license"));
        }

        @Override
        protected RestChannelConsumer prepareRequest(RestRequest request, NodeClient client) {
            return channel -> channel.sendResponse(new RestResponse(RestStatus.OK, "application/json", BASIC));
        }
    }
}
